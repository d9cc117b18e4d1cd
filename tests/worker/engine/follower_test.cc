// What a follower's watchdog says of it.

#include "worker/engine/follower.h"

#include <fcntl.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_device.h"
#include "tests/worker/engine/fake_model.h"
#include "tests/worker/engine/small_world.h"
#include "worker/comm/thread_communicator.h"
#include "worker/engine/warm_up.h"

namespace deltaserve {
namespace {

// The plans of a rank 0 that goes away after them.
class StalledChannel final : public PlanChannel {
 public:
  StalledChannel(const std::vector<StepPlan>& plans, std::function<void()> stalled)
      : PlanChannel(1, 2, kEpoch), sender_(plans), stalled_(std::move(stalled)) {}

 private:
  static constexpr uint64_t kEpoch = 5;

  // What rank 0 sends, one broadcast after another.
  class Sender final : public PlanChannel {
   public:
    explicit Sender(const std::vector<StepPlan>& plans) : PlanChannel(0, 2, kEpoch) {
      for (const StepPlan& plan : plans) {
        std::vector<uint8_t> payload;
        SerializePlan(plan, &payload);
        EXPECT_TRUE(Send(static_cast<uint32_t>(plan.kind), payload).ok());
      }
    }
    std::deque<std::vector<uint8_t>> sent;

   private:
    absl::Status BroadcastFromZero(std::span<uint8_t> bytes) override {
      sent.emplace_back(bytes.begin(), bytes.end());
      return absl::OkStatus();
    }
  };

  absl::Status BroadcastFromZero(std::span<uint8_t> bytes) override {
    if (sender_.sent.empty()) {
      stalled_();
      return absl::CancelledError("rank 0 has gone");
    }
    std::copy(sender_.sent.front().begin(), sender_.sent.front().end(), bytes.begin());
    sender_.sent.pop_front();
    return absl::OkStatus();
  }

  Sender sender_;
  const std::function<void()> stalled_;
};

// Last words of a follower that gets one step and then no plan for a minute and a half.
std::string WordsOfAStalledFollower(int run_ahead) {
  ThreadWorld world(1);
  const auto device = *cpu::CreateCpuDevice({.num_threads = 1});
  const auto comm = CreateThreadCommunicator(world, 0, *device);
  const auto model = *CreateFakeModel(kModel, 0, 1);
  EngineOptions options = SmallEngine();
  options.run_ahead = run_ahead;
  std::string words;
  LastWords::Options silent;
  silent.exit = [](int) {};
  silent.output_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
  LastWords last_words(RankInfo{}, silent);
  last_words.SetFarewell([&words](const PeerLoss& root) { words = root.cause; });
  absl::Duration now = absl::Hours(1);
  WatchdogOptions timing;
  timing.period = absl::ZeroDuration();
  timing.clock = [&now] { return now; };
  Watchdog watchdog(last_words, timing);

  const auto executor =
      *Executor::Create(world.world(0), *device, *comm, *model, options, watchdog);
  EXPECT_TRUE(executor->WarmUp(world.world(0), watchdog).ok());

  StepPlan step = ProbePlan();
  step.predicted_ms = 1000;
  StalledChannel channel({step}, [&] {
    now += absl::Seconds(90);
    watchdog.Look();
  });
  const auto link = CreateThreadControlLink(world, 0, [](const PeerLoss&) {});
  EXPECT_TRUE(absl::IsCancelled(RunFollower(*executor, channel, *link, watchdog)));
  EXPECT_EQ(executor->num_in_flight(), run_ahead);
  close(silent.output_fd);
  return words;
}

TEST(FollowerTest, SaysThatNoPlanCameWhereItWaitsForOne) {
  EXPECT_EQ(WordsOfAStalledFollower(0), "no plan has followed step 1 for 1m30s, 30s allowed");
  EXPECT_EQ(WordsOfAStalledFollower(1), "no plan has followed step 1 for 1m30s, 1m allowed");
}

}  // namespace
}  // namespace deltaserve
