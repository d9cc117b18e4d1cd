#include "worker/comm/watchdog.h"

#include <fcntl.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaserve {
namespace {

// A watchdog whose clock stands still until the test moves it, and whose thread is the test.
class WatchdogTest : public testing::Test {
 protected:
  WatchdogTest() {
    LastWords::Options words;
    words.exit = [this](int code) { exit_code_ = code; };
    words.output_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    null_ = words.output_fd;
    last_words_ = std::make_unique<LastWords>(RankInfo{}, words);
    last_words_->SetFarewell([this](const PeerLoss& root) { cause_ = root.cause; });
    WatchdogOptions options;
    options.step_floor = absl::Seconds(30);
    options.gap = absl::Seconds(20);
    options.period = absl::ZeroDuration();
    options.clock = [this] { return now_; };
    watchdog_ = std::make_unique<Watchdog>(*last_words_, options);
  }
  ~WatchdogTest() override { close(null_); }

  // Whether the watchdog has bitten by `seconds` from now.
  bool DiesAfter(double seconds) {
    now_ += absl::Seconds(seconds);
    watchdog_->Look();
    return exit_code_ != 0;
  }

  absl::Duration now_ = absl::Hours(1000);
  int exit_code_ = 0;
  std::string cause_;
  int null_ = -1;
  std::unique_ptr<LastWords> last_words_;
  std::unique_ptr<Watchdog> watchdog_;
};

TEST_F(WatchdogTest, LeavesIdleRanksAlone) {
  EXPECT_FALSE(DiesAfter(1e6));
  watchdog_->StepStarted(1, absl::Seconds(1));
  watchdog_->StepFinished();
  watchdog_->Idle();
  EXPECT_FALSE(DiesAfter(1e6));
  EXPECT_TRUE(watchdog_->health().idle);
  EXPECT_FALSE(watchdog_->health().late);
}

TEST_F(WatchdogTest, EndsAStepThatExceedsTheFloor) {
  watchdog_->StepStarted(812, absl::Milliseconds(100));
  EXPECT_FALSE(DiesAfter(30));
  EXPECT_TRUE(DiesAfter(0.5));
  EXPECT_EQ(exit_code_, 70);
  EXPECT_EQ(cause_, "step 812 has run for 30.5s, 30s allowed");
}

TEST_F(WatchdogTest, EndsAPhaseOfTheStartThatIsTooLong) {
  watchdog_->PhaseStarted("making the exchange buffer", absl::Seconds(120));
  EXPECT_FALSE(DiesAfter(120));
  watchdog_->PhaseStarted("a step of warm-up", absl::Seconds(200));
  EXPECT_FALSE(DiesAfter(200));
  watchdog_->Idle();
  EXPECT_FALSE(DiesAfter(1e6));
  watchdog_->PhaseStarted("a step of warm-up", absl::Seconds(120));
  EXPECT_TRUE(DiesAfter(121));
  EXPECT_EQ(exit_code_, 70);
  EXPECT_EQ(cause_,
            "the start, a step of warm-up, has run for 2m1s, 2m allowed: a rank hangs there, or "
            "cannot be reached");
}

TEST_F(WatchdogTest, AllowsTenTimesWhatWasPredicted) {
  watchdog_->StepStarted(1, absl::Seconds(5));
  EXPECT_FALSE(DiesAfter(50));
  EXPECT_TRUE(DiesAfter(0.1));
}

TEST_F(WatchdogTest, CountsFromTheLastStep) {
  for (uint64_t step = 1; step < 100; ++step) {
    watchdog_->StepStarted(step, absl::ZeroDuration());
    EXPECT_FALSE(DiesAfter(29));
    watchdog_->StepFinished();
    EXPECT_FALSE(DiesAfter(19));
  }
}

TEST_F(WatchdogTest, EndsARankThatNoPlanReaches) {
  watchdog_->StepStarted(7, absl::ZeroDuration());
  watchdog_->StepFinished();
  EXPECT_FALSE(DiesAfter(20));
  EXPECT_TRUE(DiesAfter(1));
  EXPECT_EQ(cause_, "no plan has followed step 7 for 21s, 20s allowed");
}

TEST_F(WatchdogTest, WaitsForAPlanUntilTheStepsInFlightAreDueAndTheGapIsOver) {
  watchdog_->StepStarted(7, absl::Seconds(6));
  watchdog_->PlanAwaited(absl::Seconds(4));
  EXPECT_FALSE(DiesAfter(60));
  EXPECT_TRUE(DiesAfter(1));
  EXPECT_EQ(cause_, "no plan has followed step 7 for 1m1s, 1m allowed");
}

TEST_F(WatchdogTest, HealthTellsStepAndAge) {
  watchdog_->StepStarted(5, absl::Seconds(1));
  now_ += absl::Seconds(12);
  EXPECT_FALSE(watchdog_->health().idle);
  EXPECT_FALSE(watchdog_->health().late);
  EXPECT_EQ(watchdog_->health().step, 5u);
  EXPECT_EQ(watchdog_->health().age, absl::Seconds(12));
  now_ += absl::Seconds(19);
  EXPECT_TRUE(watchdog_->health().late);
  watchdog_->StepFinished();
  EXPECT_FALSE(watchdog_->health().late);
  EXPECT_EQ(watchdog_->health().age, absl::ZeroDuration());
}

TEST(WatchdogThreadTest, LooksByItself) {
  absl::Notification exited;
  LastWords::Options words;
  words.exit = [&](int) { exited.Notify(); };
  LastWords last_words({}, words);
  WatchdogOptions options;
  options.step_floor = absl::Milliseconds(1);
  options.period = absl::Milliseconds(1);
  Watchdog watchdog(last_words, options);
  watchdog.StepStarted(1, absl::ZeroDuration());
  EXPECT_TRUE(exited.WaitForNotificationWithTimeout(absl::Seconds(60)));
}

TEST(WatchdogThreadTest, ReadsNoTornState) {
  // Steps that are allowed much and idle times alternate as fast as they can; a reader that mixed
  // the two would see a step that is allowed nothing.
  LastWords::Options words;
  std::atomic<int> exits{0};
  words.exit = [&](int) { ++exits; };
  LastWords last_words({}, words);
  WatchdogOptions options;
  options.period = absl::ZeroDuration();
  Watchdog watchdog(last_words, options);
  std::atomic<bool> done{false};
  std::thread engine([&] {
    for (uint64_t step = 0; step < 200000; ++step) {
      watchdog.StepStarted(step, absl::Seconds(1));
      watchdog.Idle();
    }
    done = true;
  });
  while (!done) watchdog.Look();
  engine.join();
  EXPECT_EQ(exits.load(), 0);
}

}  // namespace
}  // namespace deltaserve
