#include "worker/engine/step_budget.h"

#include <algorithm>
#include <vector>

#include "gtest/gtest.h"

namespace deltaserve {
namespace {

StepBudget Measured(absl::Duration probe) {
  return StepBudget({.cap = 512, .target = absl::Milliseconds(500)}, probe);
}

TEST(StepBudgetTest, AFixedBudgetStays) {
  StepBudget budget({.fixed = 100, .cap = 64, .target = absl::Milliseconds(500)}, {});
  budget.Record(100, 0, absl::Seconds(60));
  EXPECT_EQ(budget.tokens(), 100);
}

TEST(StepBudgetTest, BeginsWithWhatTheProbeSays) {
  EXPECT_EQ(Measured(absl::Milliseconds(100)).tokens(), 320);
  EXPECT_EQ(Measured(absl::Milliseconds(1)).tokens(), 512);
  EXPECT_EQ(Measured(absl::Seconds(10)).tokens(), 64);
  EXPECT_EQ(Measured(absl::ZeroDuration()).tokens(), 64);
}

TEST(StepBudgetTest, SlowStepsShrinkItAndFastOnesRestoreIt) {
  StepBudget budget = Measured(absl::Milliseconds(100));
  for (int i = 0; i < 20; ++i) budget.Record(320, 0, absl::Seconds(2));
  EXPECT_EQ(budget.tokens(), 64);
  for (int i = 0; i < 40; ++i) budget.Record(64, 0, absl::Milliseconds(10));
  EXPECT_EQ(budget.tokens(), 512);
}

TEST(StepBudgetTest, IsAlwaysAMultipleOf64WithinItsBounds) {
  for (int ms = 1; ms < 3000; ms += 7) {
    const int64_t tokens = Measured(absl::Milliseconds(ms)).tokens();
    EXPECT_EQ(tokens % 64, 0);
    EXPECT_GE(tokens, 64);
    EXPECT_LE(tokens, 512);
  }
}

TEST(StepBudgetTest, DecodesTakeTheirTimeFromThePrompts) {
  StepBudget budget = Measured(absl::Milliseconds(100));
  budget.Record(0, 8, absl::Milliseconds(190));
  EXPECT_EQ(budget.tokens(), 192);  // 310 ms left
  budget.Record(0, 8, absl::Seconds(100));
  EXPECT_EQ(budget.tokens(), 64);
}

TEST(StepBudgetTest, PredictsFromBothParts) {
  StepBudget budget = Measured(absl::Milliseconds(64));
  budget.Record(0, 8, absl::Milliseconds(200));
  EXPECT_EQ(absl::ToInt64Milliseconds(budget.Predict(0, 0)), 0);
  EXPECT_NEAR(absl::ToDoubleSeconds(budget.Predict(0, 1)), 0.2, 1e-6);
  EXPECT_NEAR(absl::ToDoubleSeconds(budget.Predict(128, 0)), 0.128, 1e-6);
  EXPECT_NEAR(absl::ToDoubleSeconds(budget.Predict(128, 3)), 0.328, 1e-6);
}

TEST(StepBudgetTest, AMixedStepBlamesThePromptForWhatDecodesDoNotTake) {
  StepBudget budget = Measured(absl::Milliseconds(64));
  budget.Record(0, 8, absl::Milliseconds(200));
  for (int i = 0; i < 50; ++i) budget.Record(100, 8, absl::Milliseconds(500));
  EXPECT_NEAR(absl::ToDoubleSeconds(budget.Predict(100, 0)), 0.3, 1e-3);
}

TEST(StepBudgetTest, ShortPromptsTellNothingOfLongOnes) {
  StepBudget budget = Measured(absl::Milliseconds(64));
  budget.Record(0, 8, absl::Milliseconds(100));
  for (int i = 0; i < 50; ++i) {
    budget.Record(3, 0, absl::Milliseconds(90));   // the time it takes to read the weights
    budget.Record(3, 8, absl::Milliseconds(101));  // beside decodes they seem to take none
  }
  EXPECT_EQ(budget.speed().prompt_token, absl::Milliseconds(1));
  EXPECT_EQ(budget.tokens(), 384);  // of 400 ms
  // What is faster than was believed is learned from.
  for (int i = 0; i < 50; ++i) budget.Record(32, 0, absl::Milliseconds(16));
  EXPECT_NEAR(absl::ToDoubleMilliseconds(budget.speed().prompt_token), 0.5, 1e-3);
}

// Eight answers go on while a prompt of 2,048 tokens runs, on slow and fast machines, where the
// probe was right and where it was wrong.
TEST(StepBudgetTest, StepsBesideALongPromptAreAlike) {
  for (const double prompt_ms : {20.0, 5.0, 1.0}) {
    for (const double probe_error : {0.5, 1.0, 2.0}) {
      const double decode_ms = 8 * prompt_ms;
      StepBudget budget = Measured(absl::Milliseconds(64 * prompt_ms * probe_error));
      budget.Record(0, 8, absl::Milliseconds(decode_ms));
      std::vector<double> steps;
      for (int64_t left = 2048; left > 0;) {
        const int64_t tokens = std::min(left, budget.tokens());
        steps.push_back(static_cast<double>(tokens) * prompt_ms + decode_ms);
        budget.Record(tokens, 8, absl::Milliseconds(steps.back()));
        left -= tokens;
      }
      std::sort(steps.begin(), steps.end());
      const double median = steps[steps.size() / 2];
      EXPECT_LE(steps.back(), 2.5 * median) << prompt_ms << " ms, probe x " << probe_error;
      // 500 ms and a little while it learns, but where one chunk takes longer.
      EXPECT_LE(median, std::max(550.0, 64 * prompt_ms + decode_ms));
    }
  }
}

TEST(StepBudgetTest, SpeedIsZeroUntilItIsMeasured) {
  StepBudget budget({.fixed = 128, .cap = 128, .target = absl::Milliseconds(500)}, {});
  budget.Record(10, 0, absl::Milliseconds(90));
  EXPECT_EQ(budget.speed().prompt_token, absl::ZeroDuration());
  EXPECT_EQ(budget.speed().decode_step, absl::ZeroDuration());
  budget.Record(128, 0, absl::Milliseconds(256));
  budget.Record(0, 2, absl::Milliseconds(50));
  EXPECT_EQ(budget.speed().prompt_token, absl::Milliseconds(2));
  EXPECT_EQ(budget.speed().decode_step, absl::Milliseconds(50));
}

// A rank that was stopped for a while must not make all that comes later seem too late: while
// whoever is in a hurry is refused no step would correct it.
TEST(StepBudgetTest, SpeedIsTheFastestThatWasSeen) {
  StepBudget budget = Measured(absl::Milliseconds(64));
  budget.Record(0, 1, absl::Milliseconds(20));
  budget.Record(0, 16, absl::Milliseconds(60));
  budget.Record(500, 0, absl::Seconds(20));
  budget.Record(0, 1, absl::Seconds(20));
  EXPECT_EQ(budget.speed().prompt_token, absl::Milliseconds(1));
  EXPECT_EQ(budget.speed().decode_step, absl::Milliseconds(20));
}

TEST(StepBudgetTest, RatesFollowTheLastSeconds) {
  StepBudget budget = Measured({});
  EXPECT_EQ(budget.decode_tokens_per_s(), 0);
  for (int i = 0; i < 200; ++i) budget.Record(0, 10, absl::Milliseconds(100));
  EXPECT_NEAR(budget.decode_tokens_per_s(), 100, 1);
  EXPECT_EQ(budget.prefill_tokens_per_s(), 0);
  for (int i = 0; i < 200; ++i) budget.Record(64, 0, absl::Milliseconds(320));
  EXPECT_NEAR(budget.prefill_tokens_per_s(), 200, 2);
  EXPECT_LT(budget.decode_tokens_per_s(), 1);
}

}  // namespace
}  // namespace deltaserve
