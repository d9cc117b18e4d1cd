#include "worker/engine/slot_table.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/ops.h"

namespace deltaserve {
namespace {

void Step(SlotTable& table, const StepPlan& plan, const std::vector<int32_t>& ids) {
  table.Advance(plan);
  table.TakeIds(ids);
}

using ::testing::HasSubstr;

constexpr SlotLimits kLimits{.num_slots = 3,
                             .num_states = 3,
                             .num_blocks = 10,
                             .max_blocks_per_slot = 4,
                             .vocab_rows = 100,
                             .max_rows = 130,
                             .prompt_logits = true};

std::vector<int32_t> Ids(size_t count) { return std::vector<int32_t>(count, 1); }

// Slot 1 with two blocks and its first 64 tokens.
StepPlan Begin() {
  return {.opens = {{.slot = 1,
                     .state = 2,
                     .sampling = {.temperature = 0.5f, .seed = 42},
                     .sample_index = 3,
                     .num_generated = 4,
                     .blocks = {8, 9}}},
          .state_ops = {{.state = 2}},
          .chunks = {{.slot = 1, .ids = Ids(64)}}};
}

StepPlan EndOfPrompt() {
  return {.chunks = {{.slot = 1, .start = 64, .ids = Ids(10), .scoring = Scoring::kMerged}}};
}

SlotTable Decoding() {
  SlotTable table(kLimits);
  EXPECT_TRUE(table.Apply(Begin()).ok());
  Step(table, Begin(), {});
  EXPECT_TRUE(table.Apply(EndOfPrompt()).ok());
  Step(table, EndOfPrompt(), std::vector<int32_t>{77});
  return table;
}

TEST(SlotTableTest, FoldsAPromptAndItsDecodes) {
  SlotTable table(kLimits);
  ASSERT_TRUE(table.Apply(Begin()).ok());
  EXPECT_EQ(table.slot(1).length, 0);
  Step(table, Begin(), {});
  EXPECT_EQ(table.slot(1).length, 64);
  EXPECT_EQ(table.slot(1).last_token, -1);
  EXPECT_EQ(table.slot(1).num_generated, 4u);

  ASSERT_TRUE(table.Apply(EndOfPrompt()).ok());
  Step(table, EndOfPrompt(), std::vector<int32_t>{77});
  EXPECT_EQ(table.slot(1).length, 74);
  EXPECT_EQ(table.slot(1).last_token, 77);
  EXPECT_EQ(table.slot(1).num_generated, 5u);

  const StepPlan decode{.decodes = {{.slot = 1}}};
  ASSERT_TRUE(table.Apply(decode).ok());
  Step(table, decode, std::vector<int32_t>{78});
  EXPECT_EQ(table.slot(1).length, 75);
  EXPECT_EQ(table.slot(1).last_token, 78);
  EXPECT_EQ(table.slot(1).num_generated, 6u);
  EXPECT_EQ(table.slot(1).state, 2);
  EXPECT_EQ(table.slot(1).sampling.seed, 42u);
  EXPECT_EQ(table.slot(1).sample_index, 3u);
}

TEST(SlotTableTest, RefusesMoreNewBlocksThanThereAre) {
  const std::vector<int32_t> four = {0, 1, 2, 3};
  StepPlan plan{.opens = {{.slot = 0, .state = 0, .blocks = four},
                          {.slot = 1, .state = 1, .blocks = four},
                          {.slot = 2, .state = 2, .blocks = {0, 1}}}};
  EXPECT_TRUE(SlotTable(kLimits).Apply(plan).ok());
  plan.grows = {{.slot = 2, .blocks = {2}}};
  const absl::Status status = SlotTable(kLimits).Apply(plan);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr("11 new blocks of 10 in all"));
}

TEST(SlotTableTest, RefusesMoreAlternativesThanStepsHaveRoomFor) {
  for (const uint8_t num_top : {uint8_t{20}, uint8_t{21}}) {
    const StepPlan decode{
        .decodes = {{.slot = 1, .scoring = Scoring::kGatheredLogProbs, .num_top = num_top}}};
    EXPECT_EQ(Decoding().Apply(decode).ok(), num_top == 20);
    for (const bool prompt : {false, true}) {
      StepPlan begin = Begin();
      (prompt ? begin.chunks[0].score_top : begin.chunks[0].num_top) = num_top;
      EXPECT_EQ(SlotTable(kLimits).Apply(begin).ok(), num_top == 20);
    }
  }
}

// Only rules that look at the answer wait for what is sampled.
TEST(SlotTableTest, NeedsTheIdsThatItsRulesLookAt) {
  const struct {
    LogitRules rules;
    bool needs;
  } cases[] = {
      {{.bias = {{5, 1.0F}}}, false},         {{.allows_some = true, .allowed = {5, 6}}, false},
      {{.banned = {{5}, {6}}}, false},        {{.banned = {{5}, {6, 7}}}, true},
      {{.min_tokens = 2, .ends = {4}}, true}, {{.presence_penalty = 1}, true},
      {{.frequency_penalty = 1}, true},       {{.repetition_penalty = 2}, true}};
  for (size_t i = 0; i < std::size(cases); ++i) {
    SCOPED_TRACE(i);
    SlotTable table(kLimits);
    StepPlan plan{.opens = {{.slot = 0, .rules = cases[i].rules, .num_prompt = 1, .blocks = {0}}},
                  .chunks = {{.slot = 0, .ids = Ids(1), .scoring = Scoring::kGathered}}};
    ASSERT_TRUE(table.Apply(plan).ok());
    EXPECT_FALSE(table.slot(0).needs_ids());
    table.Advance(plan);
    EXPECT_EQ(table.slot(0).needs_ids(), cases[i].needs);
  }
  // Once there are enough tokens.
  SlotTable table(kLimits);
  StepPlan plan{.opens = {{.slot = 0,
                           .rules = {.min_tokens = 1, .ends = {4}},
                           .num_prompt = 1,
                           .blocks = {0}}},
                .chunks = {{.slot = 0, .ids = Ids(1), .scoring = Scoring::kGathered}}};
  ASSERT_TRUE(table.Apply(plan).ok());
  Step(table, plan, {9});
  plan = {.decodes = {{.slot = 0, .scoring = Scoring::kGathered}}};
  ASSERT_TRUE(table.Apply(plan).ok());
  table.Advance(plan);
  EXPECT_FALSE(table.slot(0).needs_ids());
}

TEST(SlotTableTest, ClosesBeforeItOpens) {
  SlotTable table = Decoding();
  StepPlan again = Begin();
  again.closes = {1};
  again.opens[0].num_generated = 0;
  ASSERT_TRUE(table.Apply(again).ok());
  EXPECT_EQ(table.slot(1).length, 0);
  EXPECT_EQ(table.slot(1).last_token, -1);
  EXPECT_EQ(table.slot(1).num_generated, 0u);
  EXPECT_EQ(table.num_open(), 1);
}

TEST(SlotTableTest, GrowsAtTheEnd) {
  SlotTable table = Decoding();
  ASSERT_TRUE(table.Apply({.grows = {{.slot = 1, .blocks = {3}}}}).ok());
  EXPECT_EQ(table.slot(1).blocks, (std::vector<int32_t>{8, 9, 3}));
}

TEST(SlotTableTest, GivesIdsToDecodesThenToEndedPrompts) {
  SlotTable table = Decoding();
  const StepPlan plan{.opens = {{.slot = 0, .blocks = {0}}, {.slot = 2, .state = 1, .blocks = {1}}},
                      .decodes = {{.slot = 1}},
                      .chunks = {{.slot = 0, .ids = Ids(64)},
                                 {.slot = 2, .ids = Ids(3), .scoring = Scoring::kGathered}}};
  ASSERT_TRUE(table.Apply(plan).ok());
  Step(table, plan, std::vector<int32_t>{11, 12});
  EXPECT_EQ(table.slot(1).last_token, 11);
  EXPECT_EQ(table.slot(0).last_token, -1);
  EXPECT_EQ(table.slot(2).last_token, 12);
}

TEST(SlotTableTest, DigestTellsWhatWasSampledAlsoAfterAClose) {
  SlotTable a = Decoding();
  SlotTable b = Decoding();
  EXPECT_EQ(a.Digest(), b.Digest());
  const StepPlan decode{.decodes = {{.slot = 1}}};
  Step(a, decode, std::vector<int32_t>{5});
  Step(b, decode, std::vector<int32_t>{6});
  const StepPlan close{.kind = PlanKind::kIdle, .closes = {1}};
  ASSERT_TRUE(a.Apply(close).ok() && b.Apply(close).ok());
  EXPECT_EQ(a.num_open(), 0);
  EXPECT_NE(a.Digest(), b.Digest());
}

// Each plan is wrong in one way; the message says in which.
TEST(SlotTableTest, NamesWhatDoesNotFit) {
  struct Case {
    const char* message;
    StepPlan plan;
  };
  const auto chunk = [](int32_t start, size_t count) {
    return StepPlan{.opens = {{.slot = 0, .blocks = {0}}},
                    .chunks = {{.slot = 0, .start = start, .ids = Ids(count)}}};
  };
  StepPlan two_runs = chunk(0, 3);
  two_runs.chunks.push_back(two_runs.chunks[0]);
  StepPlan bad_id = chunk(0, 3);
  bad_id.chunks[0].ids[1] = 100;
  StepPlan bad_offset = chunk(0, 3);
  bad_offset.chunks[0].logit_offsets = {3};
  StepPlan unordered = chunk(0, 3);
  unordered.chunks[0].logit_offsets = {1, 1};
  StepPlan more_scores = chunk(0, 3);
  more_scores.chunks[0].score_ids = Ids(4);
  StepPlan bad_score = chunk(0, 3);
  bad_score.chunks[0].score_ids = {100};
  StepPlan too_many_scores = chunk(0, 64);
  too_many_scores.chunks[0].score_ids = Ids(64);
  too_many_scores.opens.push_back({.slot = 2, .state = 1, .blocks = {2}});
  too_many_scores.chunks.push_back({.slot = 2, .ids = Ids(2), .score_ids = Ids(1)});
  StepPlan too_many = chunk(0, 128);
  too_many.opens[0].blocks = {0, 1};
  too_many.decodes = {{.slot = 1}};
  too_many.opens.push_back({.slot = 2, .state = 1, .blocks = {2}});
  too_many.chunks.push_back({.slot = 2, .ids = Ids(2)});
  const std::vector<Case> cases = {
      {"close of slot 0, not open", {.closes = {0}}},
      {"close of slot -1 of 3", {.closes = {-1}}},
      {"open of slot 3 of 3", {.opens = {{.slot = 3}}}},
      {"open of slot 1, which is open", {.opens = {{.slot = 1}}}},
      {"state 3 of 3", {.opens = {{.slot = 0, .state = 3}}}},
      {"state -1 of 3", {.state_ops = {{.state = -1}}}},
      {"block 10 of 10", {.opens = {{.slot = 0, .blocks = {10}}}}},
      {"has 5 blocks, 4 at most", {.grows = {{.slot = 1, .blocks = {1, 2, 3}}}}},
      {"growth of slot 2, not open", {.grows = {{.slot = 2, .blocks = {1}}}}},
      {"decode of slot 2, not open", {.decodes = {{.slot = 2}}}},
      {"has no token yet", {.opens = {{.slot = 0, .blocks = {0}}}, .decodes = {{.slot = 0}}}},
      {"without sampling", {.decodes = {{.slot = 1, .scoring = Scoring::kNone}}}},
      {"slot 1 runs twice", {.decodes = {{.slot = 1}, {.slot = 1}}}},
      {"slot 0 runs twice", two_runs},
      {"starts at 64, the slot holds 0", chunk(64, 3)},
      {"starts at 74, the slot holds 74",  // not after its prompt has ended
       {.chunks = {{.slot = 1, .start = 74, .ids = Ids(1)}}}},
      {"chunk of 65 tokens at 0", chunk(0, 65)},
      {"chunk of 0 tokens", chunk(0, 0)},
      {"token 100 of 100", bad_id},
      {"logits at 3 of a chunk of 3", bad_offset},
      {"logits at 1 of a chunk of 3", unordered},
      {"ids to be scored", {.opens = {{.slot = 0, .logprob_ids = {100}}}}},
      {"129 ids to be scored",
       {.opens = {{.slot = 0, .logprob_ids = std::vector<int32_t>(129, 1)}}}},
      {"4 ids scored by a chunk of 3", more_scores},
      {"has no logit", bad_score},
      {"65 of them for logits", too_many_scores},
      {"131 rows", too_many},
  };
  for (const Case& wrong : cases) {
    SlotTable table = Decoding();
    const absl::Status status = table.Apply(wrong.plan);
    EXPECT_TRUE(absl::IsDataLoss(status)) << wrong.message;
    EXPECT_THAT(std::string(status.message()), HasSubstr(wrong.message));
  }
}

TEST(SlotTableTest, RefusesADecodeBeyondItsBlocks) {
  SlotTable table(kLimits);
  const StepPlan full{.opens = {{.slot = 0, .blocks = {0}}},
                      .chunks = {{.slot = 0, .ids = Ids(64), .scoring = Scoring::kMerged}}};
  ASSERT_TRUE(table.Apply(full).ok());
  Step(table, full, std::vector<int32_t>{1});
  EXPECT_THAT(std::string(table.Apply({.decodes = {{.slot = 0}}}).message()),
              HasSubstr("beyond its blocks"));
}

TEST(SlotTableTest, RefusesLogitsWhereTheyAreNotOffered) {
  SlotLimits limits = kLimits;
  limits.prompt_logits = false;
  SlotTable table(limits);
  const StepPlan plan{.opens = {{.slot = 0, .blocks = {0}}},
                      .chunks = {{.slot = 0, .ids = Ids(3), .logit_offsets = {1}}}};
  EXPECT_TRUE(absl::IsDataLoss(table.Apply(plan)));
}

}  // namespace
}  // namespace deltaserve
