#include "worker/engine/step_plan.h"

#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaserve {
namespace {

using ::testing::ElementsAre;

// Every field differs from its default and from its neighbours.
StepPlan FullPlan() {
  return {.kind = PlanKind::kStop,
          .predicted_ms = 0x01020304,
          .closes = {7, 2},
          .opens = {{.slot = 3,
                     .state = 5,
                     .sampling = {.temperature = 0.7f,
                                  .top_p = 0.9f,
                                  .top_k = -1,
                                  .min_p = 0.05f,
                                  .seed = 0xFEDCBA9876543210u},
                     .sample_index = 0x89ABCDEF,
                     .num_generated = 17,
                     .forced_exit = {.watch_ids = {7}, .after_tokens = 300, .force_ids = {8, 7, 9}},
                     .exit_seen = true,
                     .rules = {.presence_penalty = 0.5f,
                               .frequency_penalty = -0.25f,
                               .repetition_penalty = 1.25f,
                               .bias = {{3, -1.0f}, {70001, 2.0f}},
                               .allows_some = true,
                               .allowed = {6, 70002},
                               .banned = {{1}, {2, 3}},
                               .min_tokens = 4,
                               .ends = {8}},
                     .num_prompt = 21,
                     .logprob_ids = {12, 70003},
                     .blocks = {70000, 1, 0}},
                    {.slot = 4, .blocks = {}}},
          .state_ops = {{.state = 5}, {.state = 6}},
          .grows = {{.slot = 1, .blocks = {9}}},
          .decodes = {{.slot = 8, .scoring = Scoring::kGathered},
                      {.slot = 9, .scoring = Scoring::kGatheredLogProbs, .num_top = 20}},
          .chunks = {{.slot = 3,
                      .start = 128,
                      .ids = {1, 248319, 3},
                      .logit_offsets = {0, 2},
                      .score_ids = {248319, 3},
                      .score_top = 19,
                      .scoring = Scoring::kMerged,
                      .num_top = 1},
                     {.slot = 4, .start = 64, .ids = {5}}}};
}

std::vector<uint8_t> Bytes(const StepPlan& plan) {
  std::vector<uint8_t> bytes = {1, 2, 3};  // must be replaced, not appended to
  SerializePlan(plan, &bytes);
  return bytes;
}

TEST(StepPlanTest, ComesBackAsItWas) {
  for (const StepPlan& plan : {FullPlan(), StepPlan(), StepPlan{.kind = PlanKind::kIdle}}) {
    const absl::StatusOr<StepPlan> back = ParsePlan(Bytes(plan));
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_TRUE(*back == plan);
  }
}

TEST(StepPlanTest, EqualityLooksAtEveryField) {
  const StepPlan plan = FullPlan();
  StepPlan other = plan;
  other.opens[0].sampling.seed ^= uint64_t{1} << 63;
  EXPECT_FALSE(other == plan);
  other = plan;
  other.opens[0].num_generated = 0;
  EXPECT_FALSE(other == plan);
  other = plan;
  other.opens[0].rules.banned[1].pop_back();
  EXPECT_FALSE(other == plan);
  other = plan;
  other.chunks[0].logit_offsets.pop_back();
  EXPECT_FALSE(other == plan);
  other = plan;
  other.opens[0].logprob_ids.pop_back();
  EXPECT_FALSE(other == plan);
}

TEST(StepPlanTest, IsLittleEndian) {
  const std::vector<uint8_t> bytes = Bytes(FullPlan());
  const std::vector<uint8_t> head(bytes.begin(), bytes.begin() + 10);
  EXPECT_THAT(head, ElementsAre(5, 3, 4, 3, 2, 1, 2, 0, 0, 0));
}

TEST(StepPlanTest, EveryTruncationIsDataLoss) {
  const std::vector<uint8_t> bytes = Bytes(FullPlan());
  for (size_t size = 0; size < bytes.size(); ++size) {
    const absl::StatusOr<StepPlan> plan = ParsePlan(std::span(bytes).first(size));
    ASSERT_TRUE(absl::IsDataLoss(plan.status())) << size << " bytes: " << plan.status();
  }
}

TEST(StepPlanTest, BytesBehindTheEndAreDataLoss) {
  std::vector<uint8_t> bytes = Bytes(FullPlan());
  bytes.push_back(0);
  EXPECT_TRUE(absl::IsDataLoss(ParsePlan(bytes).status()));
}

TEST(StepPlanTest, DamageIsRefusedOrIsAnotherPlan) {
  const std::vector<uint8_t> bytes = Bytes(FullPlan());
  std::mt19937 random(1);
  int refused = 0;
  for (int round = 0; round < 20000; ++round) {
    std::vector<uint8_t> damaged = bytes;
    const int hits = 1 + static_cast<int>(random() % 4);
    for (int hit = 0; hit < hits; ++hit) {
      damaged[random() % damaged.size()] = static_cast<uint8_t>(random());
    }
    if (damaged == bytes) continue;
    const absl::StatusOr<StepPlan> plan = ParsePlan(damaged);
    if (!plan.ok()) {
      ASSERT_TRUE(absl::IsDataLoss(plan.status()));
      ++refused;
      continue;
    }
    // One plan has one form, so what was read is what those bytes say.
    ASSERT_EQ(Bytes(*plan), damaged);
  }
  EXPECT_GT(refused, 1000);
}

TEST(StepPlanTest, ACountBeyondTheBytesAllocatesNothing) {
  // Version, kind, prediction, then 2^32 - 1 closes.
  const std::vector<uint8_t> bytes = {1, 1, 0, 0, 0, 0, 255, 255, 255, 255};
  EXPECT_TRUE(absl::IsDataLoss(ParsePlan(bytes).status()));
}

TEST(StepPlanTest, AnotherVersionIsNamed) {
  std::vector<uint8_t> bytes = Bytes(StepPlan());
  bytes[0] = 9;
  EXPECT_THAT(std::string(ParsePlan(bytes).status().message()), ::testing::HasSubstr("version 9"));
}

TEST(ScoringTest, FollowsTheRequestAlone) {
  EXPECT_EQ(ScoringOf({.temperature = 0}, false, false), Scoring::kMerged);
  EXPECT_EQ(ScoringOf({.temperature = 1}, false, false), Scoring::kMerged);
  EXPECT_EQ(ScoringOf({.temperature = 0, .top_p = 0.5f, .top_k = 5}, false, false),
            Scoring::kMerged);
  EXPECT_EQ(ScoringOf({.temperature = 1, .top_k = -1}, false, false), Scoring::kMerged);
  EXPECT_EQ(ScoringOf({.temperature = 1, .top_k = 1}, false, false), Scoring::kGathered);
  EXPECT_EQ(ScoringOf({.temperature = 1, .top_p = 0.99f}, false, false), Scoring::kGathered);
  EXPECT_EQ(ScoringOf({.temperature = 1, .min_p = 0.01f}, false, false), Scoring::kGathered);
  EXPECT_EQ(ScoringOf({.temperature = 0}, false, true), Scoring::kGatheredLogProbs);
  EXPECT_EQ(ScoringOf({.temperature = 0}, true, false), Scoring::kGathered);
  EXPECT_EQ(ScoringOf({.temperature = 0}, true, true), Scoring::kGatheredLogProbs);
}

TEST(ScorePlanTest, ListsRowsOfDecodesThenOfChunks) {
  const StepPlan plan{
      .decodes = {{.slot = 5, .scoring = Scoring::kGathered}, {.slot = 2}},
      .chunks = {{.slot = 0, .ids = {1, 1, 1}, .logit_offsets = {1}},
                 {.slot = 1,
                  .start = 64,
                  .ids = {1, 1, 1},
                  .logit_offsets = {0, 2},
                  .scoring = Scoring::kMerged},
                 {.slot = 3, .ids = {1, 1}, .scoring = Scoring::kGatheredLogProbs, .num_top = 4}}};
  const ScorePlan score = MakeScorePlan(plan);
  EXPECT_THAT(score.rows, ElementsAre(0, 1, 3, 5, 7, 9));
  ASSERT_EQ(score.sampled.size(), 4u);
  EXPECT_EQ(score.sampled[0].slot, 5);
  EXPECT_EQ(score.sampled[1].slot, 2);
  EXPECT_EQ(score.sampled[2].slot, 1);
  EXPECT_EQ(score.sampled[2].scored, 4);  // shared with the logits of the same row
  EXPECT_EQ(score.sampled[3].scored, 5);
  EXPECT_EQ(score.sampled[3].num_top, 4);
  ASSERT_EQ(score.logits.size(), 3u);
  EXPECT_EQ(score.logits[0].position, 1);
  EXPECT_EQ(score.logits[1].position, 64);
  EXPECT_EQ(score.logits[2].position, 66);
  EXPECT_EQ(score.logits[2].scored, 4);
  EXPECT_THAT(score.order, ElementsAre(1, 2, 0, 3));
  EXPECT_EQ(score.num_merged, 2);
}

TEST(ScorePlanTest, RowsThatScoreAPromptComeBeforeOthersAndAreNotDoubled) {
  const StepPlan plan{
      .decodes = {{.slot = 5}},
      .chunks = {{.slot = 0, .ids = {7, 8, 9}, .score_ids = {8, 9, 10}, .score_top = 2},
                 {.slot = 1,
                  .ids = {3, 4, 5, 6},
                  .logit_offsets = {1, 2},
                  .score_ids = {4, 5},
                  .scoring = Scoring::kMerged},
                 {.slot = 2, .ids = {1}, .score_ids = {2}, .scoring = Scoring::kMerged}}};
  const ScorePlan score = MakeScorePlan(plan);
  EXPECT_THAT(score.rows, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8));
  std::vector<int32_t> ids, scored;
  for (const ScorePlan::PromptToken& token : score.prompt) {
    ids.push_back(token.id);
    scored.push_back(token.scored);
  }
  EXPECT_THAT(ids, ElementsAre(8, 9, 10, 4, 5, 2));
  EXPECT_THAT(scored, ElementsAre(1, 2, 3, 4, 5, 8));
  EXPECT_EQ(score.prompt[0].num_top, 2);
  EXPECT_EQ(score.logits[0].scored, 5);
  EXPECT_EQ(score.logits[1].scored, 6);
  EXPECT_EQ(score.sampled[1].scored, 7);
  EXPECT_EQ(score.sampled[2].scored, 8);  // the row that scores, too
  EXPECT_EQ(plan.chunks[1].num_logit_rows(), 3);
}

}  // namespace
}  // namespace deltaserve
