#include "worker/engine/warm_up.h"

#include <algorithm>
#include <set>

#include "gtest/gtest.h"
#include "worker/engine/engine_options.h"

namespace deltaserve {
namespace {

struct Shape {
  int64_t slots;
  int64_t blocks;
  int64_t context_blocks;
  int64_t budget;
};

void PrintTo(const Shape& shape, std::ostream* out) {
  *out << shape.slots << " slots, " << shape.blocks << " blocks, budget " << shape.budget;
}

class WarmUpTest : public ::testing::TestWithParam<Shape> {
 protected:
  SlotLimits Limits() const {
    const Shape& shape = GetParam();
    return {.num_slots = shape.slots,
            .num_states = shape.slots,
            .num_blocks = shape.blocks,
            .max_blocks_per_slot = std::min(shape.context_blocks, shape.blocks),
            .vocab_rows = 10,
            .max_rows = shape.slots + shape.budget};
  }

  // The most rows that requests could bring into one step: each slot holds whole blocks, and a
  // block gives one decode row or up to 64 of a prompt.
  int64_t MostRows() const {
    const Shape& shape = GetParam();
    const SlotLimits limits = Limits();
    int64_t most = 0;
    for (int64_t prompts = 1; prompts <= std::min(shape.slots, shape.blocks); ++prompts) {
      const int64_t tokens =
          std::min(shape.budget, 64 * std::min(prompts * limits.max_blocks_per_slot, shape.blocks));
      const int64_t chunk_blocks = std::max(prompts, (tokens + 63) / 64);
      const int64_t decodes = std::min(shape.slots - prompts, shape.blocks - chunk_blocks);
      most = std::max(most, tokens + decodes);
    }
    return most;
  }

  // The most chunks of 64 rows that a step's prompts can be, with a part of one for each sequence.
  int64_t MostChunks() const {
    const Shape& shape = GetParam();
    const int64_t prompts = std::min(shape.slots, shape.blocks);
    const int64_t tokens =
        std::min(shape.budget, 64 * std::min(prompts * Limits().max_blocks_per_slot, shape.blocks));
    return tokens / 64 + prompts;
  }
};

TEST_P(WarmUpTest, PlansFitTheTableAndReachTheLargestShapes) {
  SlotTable table(Limits());
  int64_t rows = 0;
  int64_t sequences = 0;
  int64_t gathered = 0;
  int64_t chunks = 0;
  size_t scores = 0;
  for (const StepPlan& plan : WarmUpPlans(Limits(), GetParam().budget)) {
    const absl::Status status = table.Apply(plan);
    ASSERT_TRUE(status.ok()) << status;
    std::set<int32_t> owned;
    for (int64_t slot = 0; slot < GetParam().slots; ++slot) {
      for (const int32_t block : table.slot(slot).blocks) {
        EXPECT_TRUE(owned.insert(block).second) << "block " << block << " in two slots";
      }
    }
    const ScorePlan score = MakeScorePlan(plan);
    rows = std::max(rows, plan.num_rows());
    sequences = std::max(sequences, static_cast<int64_t>(plan.decodes.size() + plan.chunks.size()));
    gathered = std::max(gathered, static_cast<int64_t>(score.sampled.size()) - score.num_merged);
    scores = std::max(scores, score.prompt.size());
    const auto prompts = static_cast<int64_t>(plan.chunks.size());
    const int64_t prompt_rows = plan.num_rows() - static_cast<int64_t>(plan.decodes.size());
    chunks = std::max(chunks, prompt_rows / 64 + prompts);
    table.Advance(plan);
    table.TakeIds(std::vector<int32_t>(score.sampled.size(), 0));
  }
  EXPECT_EQ(table.num_open(), 0);
  EXPECT_EQ(rows, MostRows());
  EXPECT_EQ(sequences, std::min(GetParam().slots, GetParam().blocks));
  EXPECT_EQ(gathered, sequences);
  EXPECT_EQ(chunks, MostChunks());
  EXPECT_EQ(scores, static_cast<size_t>(kMaxLogitRows));
}

TEST_P(WarmUpTest, TheProbeFitsAndCanBeRunAgain) {
  SlotTable table(Limits());
  StepPlan plan = ProbePlan();
  ASSERT_TRUE(table.Apply(plan).ok());
  table.Advance(plan);
  table.TakeIds(std::vector<int32_t>{0});
  plan.closes.push_back(0);
  ASSERT_TRUE(table.Apply(plan).ok());
  EXPECT_EQ(plan.num_rows(), 64);
}

TEST(WarmUpPaceTest, AllowsTenTimesWhatTheSlowestStepLetsExpect) {
  WarmUpPace unmeasured(absl::Seconds(7));
  EXPECT_EQ(unmeasured.Allowed(64), absl::Seconds(448));
  EXPECT_EQ(unmeasured.Allowed(1), absl::Seconds(120));
  WarmUpPace pace(absl::Seconds(7));
  pace.Record(64, absl::Seconds(16));  // 0.25 s a row
  EXPECT_EQ(pace.Allowed(1), absl::Seconds(160));
  EXPECT_EQ(pace.Allowed(128), absl::Seconds(320));
  pace.Record(1000, absl::Seconds(50));  // faster, but longer
  EXPECT_EQ(pace.Allowed(1), absl::Seconds(500));
  EXPECT_EQ(pace.Allowed(1000), absl::Seconds(2500));
  pace.Record(0, absl::Seconds(1));
  EXPECT_EQ(pace.Allowed(1), absl::Seconds(500));
}

INSTANTIATE_TEST_SUITE_P(Shapes,
                         WarmUpTest,
                         ::testing::Values(Shape{1, 1, 1, 64},
                                           Shape{1, 100, 100, 512},
                                           Shape{32, 1000, 64, 512},
                                           Shape{32, 1000, 2, 512},
                                           Shape{8, 4, 4, 64},
                                           Shape{8, 4, 4, 1000},
                                           Shape{4, 20, 3, 1000},
                                           Shape{8, 9, 100, 130}));

}  // namespace
}  // namespace deltaserve
