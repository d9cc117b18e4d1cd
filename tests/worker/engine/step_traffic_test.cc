// What a step copies between host and device, and that it waits for nothing until it is collected.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cpu/cpu_device.h"
#include "tests/worker/engine/small_world.h"
#include "worker/engine/executor.h"
#include "worker/engine/step_runner.h"

namespace deltaserve {
namespace {

struct Traffic {
  int to_device = 0;  // copies
  int to_host = 0;
  int pageable = 0;  // of those, with host memory that is not kHost
  int waits = 0;     // for all that is enqueued
};

// A CPU that counts.
class CountingDevice final : public Device {
 public:
  explicit CountingDevice(std::unique_ptr<Device> device) : device_(std::move(device)) {}

  Traffic Take() { return std::exchange(traffic_, {}); }

  std::string Name() const override { return device_->Name(); }
  bool HostAddressable() const override { return true; }
  const Numerics& numerics() const override { return device_->numerics(); }
  absl::StatusOr<Buffer> Allocate(size_t bytes, MemoryKind kind) override {
    absl::StatusOr<Buffer> buffer = device_->Allocate(bytes, kind);
    if (buffer.ok() && kind == MemoryKind::kHost) {
      pinned_.emplace_back(static_cast<const char*>(buffer->data()), bytes);
    }
    return buffer;
  }
  void CopyToDevice(TensorView dst, const void* src) override {
    ++traffic_.to_device;
    traffic_.pageable += IsPinned(src, dst.bytes()) ? 0 : 1;
    device_->CopyToDevice(dst, src);
  }
  void CopyToHost(void* dst, TensorView src) override {
    ++traffic_.to_host;
    traffic_.pageable += IsPinned(dst, src.bytes()) ? 0 : 1;
    device_->CopyToHost(dst, src);
  }
  void Copy(TensorView dst, TensorView src) override { device_->Copy(dst, src); }
  void Zero(TensorView dst) override { device_->Zero(dst); }
  absl::Status Synchronize() override {
    ++traffic_.waits;
    return device_->Synchronize();
  }
  uint64_t Mark() override { return device_->Mark(); }
  absl::Status Await(uint64_t point) override { return device_->Await(point); }
  Ops& ops() override { return device_->ops(); }

 private:
  bool IsPinned(const void* data, size_t bytes) const {
    const auto* begin = static_cast<const char*>(data);
    for (const auto& [memory, size] : pinned_) {
      if (begin >= memory && begin + bytes <= memory + size) return true;
    }
    return false;
  }

  const std::unique_ptr<Device> device_;
  std::vector<std::pair<const char*, size_t>> pinned_;  // all live as long as the executor
  Traffic traffic_;
};

// The traffic of launching each of `plans`, one after another has been collected, in a warm world.
std::vector<Traffic> TrafficOf(const std::vector<StepPlan>& plans) {
  std::vector<Traffic> traffic;
  EngineOptions engine = SmallEngine();
  engine.prompt_logits = true;
  CountingDevice* counting = nullptr;
  PretendOptions options{.engine = engine};
  options.wrap_device = [&](std::unique_ptr<Device> device) {
    auto wrapped = std::make_unique<CountingDevice>(std::move(device));
    counting = wrapped.get();
    return wrapped;
  };
  options.loop = [&](StepRunner& /*runner*/, Executor& executor, Device& /*device*/) {
    for (const StepPlan& plan : plans) {
      counting->Take();
      if (absl::Status status = executor.Launch(plan); !status.ok()) return status;
      traffic.push_back(counting->Take());
      if (absl::Status status = executor.Collect().status(); !status.ok()) return status;
    }
    return absl::OkStatus();
  };
  auto world = PretendWorld::Start(options, Factory());
  EXPECT_TRUE(world.ok()) << world.status();
  for (const absl::Status& status : (*world)->End()) EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(traffic.size(), plans.size());
  return traffic;
}

PrefillChunk Chunk(int32_t slot, int32_t start, size_t length, Scoring scoring) {
  return {.slot = slot, .start = start, .ids = std::vector<int32_t>(length, 7), .scoring = scoring};
}

// Slots that open and grow, with rows and without.
TEST(StepTrafficTest, AStepIsOneCopyEachWay) {
  std::vector<StepPlan> plans;
  plans.push_back(
      {.opens = {{.slot = 2, .state = 2, .blocks = {5, 9}}, {.slot = 0, .state = 0, .blocks = {1}}},
       .state_ops = {{.state = 2}, {.state = 0}},
       .chunks = {Chunk(2, 0, 100, Scoring::kMerged)}});
  plans.push_back({.grows = {{.slot = 0, .blocks = {3}}, {.slot = 2, .blocks = {4}}},
                   .decodes = {{.slot = 2}},
                   .chunks = {Chunk(0, 0, 120, Scoring::kMerged)}});
  plans.push_back({.decodes = {{.slot = 0}, {.slot = 2}}});
  plans.push_back({.grows = {{.slot = 0, .blocks = {11}}}});
  plans.push_back({.closes = {0}});
  // The fake model checks that slot 2 still finds its 102 tokens.
  plans.push_back({.decodes = {{.slot = 2}}});
  const std::vector<Traffic> traffic = TrafficOf(plans);
  const std::vector<int> to_device = {1, 1, 1, 1, 0, 1};
  const std::vector<int> to_host = {1, 1, 1, 0, 0, 1};
  for (size_t i = 0; i < traffic.size(); ++i) {
    SCOPED_TRACE(i);
    EXPECT_EQ(traffic[i].to_device, to_device[i]);
    EXPECT_EQ(traffic[i].to_host, to_host[i]);
    EXPECT_EQ(traffic[i].pageable, 0);
    EXPECT_EQ(traffic[i].waits, 0);
  }
}

// Rules of every kind, thinking budgets, log-probabilities, scores of prompts and logits: nothing
// that a launch enqueues passes through memory that a copy waits for.
TEST(StepTrafficTest, RowsWithRulesAndScoresMakeNoStepWait) {
  std::vector<StepPlan> plans;
  StepPlan begin;
  for (int32_t slot = 0; slot < 4; ++slot) {
    begin.opens.push_back({.slot = slot, .state = slot, .num_prompt = 30, .blocks = {slot}});
    begin.state_ops.push_back({.state = slot});
    begin.chunks.push_back(Chunk(slot, 0, 30, Scoring::kGatheredLogProbs));
  }
  begin.opens[0].rules = {.presence_penalty = 1, .repetition_penalty = 2, .bias = {{3, 1.0F}}};
  begin.opens[1].rules = {.banned = {{5}, {6, 7}}, .min_tokens = 9, .ends = {8}};
  begin.opens[2].logprob_ids = {1, 2, 99};
  begin.opens[3].forced_exit = {.watch_ids = {20}, .after_tokens = 0, .force_ids = {7, 8, 9}};
  begin.chunks[1].num_top = 20;
  begin.chunks[2].score_ids = std::vector<int32_t>(30, 7);
  begin.chunks[2].score_top = 20;
  begin.chunks[3].logit_offsets = {0, 3, 29};
  plans.push_back(begin);
  StepPlan decode;
  for (int32_t slot = 0; slot < 4; ++slot) {
    decode.decodes.push_back({.slot = slot, .scoring = Scoring::kGatheredLogProbs, .num_top = 3});
  }
  plans.push_back(decode);
  plans.push_back(decode);
  for (const Traffic& traffic : TrafficOf(plans)) {
    EXPECT_GT(traffic.to_device, 1);
    EXPECT_GT(traffic.to_host, 1);
    EXPECT_EQ(traffic.pageable, 0);
    EXPECT_EQ(traffic.waits, 0);
  }
}

}  // namespace
}  // namespace deltaserve
