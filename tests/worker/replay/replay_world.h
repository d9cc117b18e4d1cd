#pragma once

// Worlds of threads that record and that replay.

#include <cstdint>
#include <memory>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/small_world.h"
#include "worker/replay/replay.h"
#include "worker/replay/step_recorder.h"

namespace deltaserve {

// A recording and the steps in it.
struct Recorded {
  RecordingHeader header;
  std::vector<RecordedStep> steps;
};

// Counts idle plans.
class IdleWatch final : public PlanObserver {
 public:
  void OnPlan(uint64_t, std::span<const uint8_t>) override {}
  void OnResult(uint64_t, const StepPlan& plan, const StepResult&) override {
    const absl::MutexLock lock(&mutex_);
    if (plan.kind == PlanKind::kIdle) idle_ = true;
  }
  // Blocks until one came since the last call.
  void Await() {
    const absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&idle_));
    idle_ = false;
  }

 private:
  absl::Mutex mutex_;
  bool idle_ ABSL_GUARDED_BY(mutex_) = false;
};

inline std::unique_ptr<RecordingReader> OpenBytes(const std::vector<uint8_t>& bytes) {
  auto stream = std::make_unique<std::istringstream>(std::string(bytes.begin(), bytes.end()));
  auto reader = RecordingReader::Open("test.rec", std::move(stream));
  EXPECT_TRUE(reader.ok()) << reader.status();
  return *std::move(reader);
}

inline std::vector<uint8_t> BytesOf(const Recorded& recorded) {
  std::vector<uint8_t> bytes;
  AppendHeader(recorded.header, &bytes);
  for (const RecordedStep& step : recorded.steps) {
    std::vector<uint8_t> plan;
    SerializePlan(step.plan, &plan);
    AppendPlan(step.step, plan, &bytes);
    if (step.result.has_value()) AppendResult(step.step, *step.result, &bytes);
  }
  return bytes;
}

inline Recorded ReadAll(RecordingReader& reader) {
  Recorded recorded;
  recorded.header = reader.header();
  while (true) {
    auto step = reader.Next();
    EXPECT_TRUE(step.ok()) << step.status();
    if (!step.ok() || !step->has_value()) return recorded;
    recorded.steps.push_back(**std::move(step));
  }
}

// Requests of every kind: greedy, sampled, filtered, with log-probabilities, logits of the prompt,
// a forced exit, rules; some resumed, some cancelled after a few tokens.
inline Request AnyRequest(uint32_t i) {
  Request request = Ask(i, 1 + (i * 37) % 200, 3 + i % 12);
  if (i % 5 == 1) request.sampling.temperature = 0.8f;
  if (i % 5 == 2) request.sampling = {.temperature = 1.2f, .top_k = 7, .seed = i};
  if (i % 3 == 0) request.logprobs = i % 6;
  if (i % 4 == 0) request.logits_at = {0};
  if (i % 6 == 5) {
    request.forced_exit = ForcedExit{.watch_ids = {5}, .after_tokens = 2, .force_ids = {3, 5}};
  }
  if (i % 6 == 1) request.rules = {.presence_penalty = 1, .bias = {{2, 1.5f}}};
  if (i % 7 == 3) request.generated = {7};
  return request;
}

inline EngineOptions RecordedEngine() {
  EngineOptions options = SmallEngine();
  options.prompt_logits = true;
  options.idle_after = absl::ZeroDuration();  // idle plans too
  return options;
}

// Serves 20 requests and leaves their recording in `file`; what was answered.
inline std::vector<CollectingSink::Received> RecordTo(std::unique_ptr<RecordingSink> file,
                                                      int ranks,
                                                      bool ops,
                                                      const RecordingWriter::Options& writer = {}) {
  std::unique_ptr<OpChecksums> checksums;
  std::unique_ptr<StepRecorder> recorder;
  IdleWatch idle;
  PretendOptions options{.ranks = ranks, .engine = RecordedEngine()};
  if (ops) {
    checksums = std::make_unique<OpChecksums>();
    options.wrap_device = [&](auto device) {
      return ChecksumDevice(std::move(device), *checksums);
    };
  }
  options.prepare = [&](Engine& engine, Executor& executor, Device& device) {
    const RecordingHeader header{
        .plan_version = PlanVersion(), .model = "fake", .ranks = ranks, .ops = ops};
    auto started =
        StepRecorder::Start(std::move(file), header, executor, device, checksums.get(), writer);
    ASSERT_TRUE(started.ok()) << started.status();
    recorder = *std::move(started);
    engine.AddPlanObserver(recorder.get());
    engine.AddPlanObserver(&idle);
  };
  auto world = PretendWorld::Start(options, Factory());
  EXPECT_TRUE(world.ok()) << world.status();
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (uint32_t i = 0; i < 20; ++i) {
    const Request request = AnyRequest(i);
    sinks.push_back(
        std::make_shared<CollectingSink>(static_cast<uint32_t>(request.generated.size())));
    const auto ticket = (*world)->engine().Submit(request, sinks.back());
    EXPECT_TRUE(ticket.ok()) << ticket.status();
    if (i % 8 == 7) {
      for (const auto& sink : sinks) sink->Wait();
      idle.Await();
    }
    if (i % 8 == 4) {
      sinks.back()->WaitForTokens(2);
      (*world)->engine().Cancel(*ticket);
    }
  }
  std::vector<CollectingSink::Received> received;
  received.reserve(sinks.size());
  for (const auto& sink : sinks) received.push_back(sink->Wait());
  for (const absl::Status& status : (*world)->End()) EXPECT_TRUE(status.ok()) << status;
  return received;
}

// The same in the file `path`.
inline std::vector<CollectingSink::Received> Record(int ranks, const std::string& path, bool ops) {
  auto file = RecordingFile::Create(path);
  EXPECT_TRUE(file.ok()) << file.status();
  return file.ok() ? RecordTo(*std::move(file), ranks, ops)
                   : std::vector<CollectingSink::Received>();
}

// Replays in a world of threads like Record's.
inline ReplayReport ReplayIn(int ranks, RecordingReader& reader, bool checksums, bool ops) {
  OpChecksums op_checksums;
  ReplayReport report;
  PretendOptions options{.ranks = ranks, .engine = RecordedEngine()};
  options.wrap_device = [&](auto device) {
    return ChecksumDevice(std::move(device), op_checksums);
  };
  options.loop = [&](StepRunner& runner, Executor& executor, Device& device) {
    auto replayed = Replay(reader, runner, executor, device,
                           {.checksums = checksums, .ops = ops ? &op_checksums : nullptr});
    if (!replayed.ok()) return replayed.status();
    report = *std::move(replayed);
    return absl::OkStatus();
  };
  auto world = PretendWorld::Start(options, Factory());
  EXPECT_TRUE(world.ok()) << world.status();
  for (const absl::Status& status : (*world)->End()) EXPECT_TRUE(status.ok()) << status;
  return report;
}

}  // namespace deltaserve
