#include "worker/replay/replay.h"

#include <algorithm>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/system/process.h"
#include "tests/worker/replay/replay_world.h"

namespace deltaserve {
namespace {

using ::testing::HasSubstr;
using What = ReplayDifference::What;

Recorded RecordAndRead(int ranks, bool ops) {
  const test::TempDir folder;
  const std::string path = folder / "plans.rec";
  Record(ranks, path, ops);
  auto reader = RecordingReader::OpenFile(path);
  EXPECT_TRUE(reader.ok()) << reader.status();
  return ReadAll(**reader);
}

ReplayReport ReplayOf(int ranks, const Recorded& recorded, bool checksums = true) {
  return ReplayIn(ranks, *OpenBytes(BytesOf(recorded)), checksums, recorded.header.ops);
}

class ReplayRanksTest : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, ReplayRanksTest, ::testing::Values(1, 2, 4));

TEST_P(ReplayRanksTest, ARecordedWorldComesAgain) {
  const test::TempDir folder;
  const std::string path = folder / "plans.rec";
  const auto received = Record(GetParam(), path, true);
  auto reader = RecordingReader::OpenFile(path);
  ASSERT_TRUE(reader.ok()) << reader.status();
  const Recorded recorded = ReadAll(**reader);
  const ReplayReport report = ReplayOf(GetParam(), recorded);
  EXPECT_TRUE(report.identical());
  EXPECT_TRUE(report.first.empty());
  EXPECT_EQ(report.steps, recorded.steps.size());
  EXPECT_EQ(recorded.steps.back().plan.kind, PlanKind::kStop);
  size_t tokens = 0;
  for (const auto& answer : received) tokens += answer.tokens.size();
  EXPECT_GE(report.tokens, tokens);  // a cancelled request may have had more
  EXPECT_GT(tokens, 100u);
  EXPECT_GT(report.logit_rows, report.tokens);  // those of prompts too
  EXPECT_GT(report.num_ops, 2 * report.steps);
  const auto kinds = [&](PlanKind kind) {
    return std::count_if(recorded.steps.begin(), recorded.steps.end(),
                         [kind](const RecordedStep& step) { return step.plan.kind == kind; });
  };
  EXPECT_GE(kinds(PlanKind::kIdle), 2);
}

// The step in the middle of `recorded` that decodes two or more.
RecordedStep& BusyStep(Recorded& recorded) {
  const auto busy = std::find_if(
      recorded.steps.begin() + static_cast<ptrdiff_t>(recorded.steps.size() / 3),
      recorded.steps.end(), [](const RecordedStep& step) { return step.plan.decodes.size() > 1; });
  EXPECT_NE(busy, recorded.steps.end());
  return *busy;
}

TEST(ReplayTest, NamesWhatIsNotAsRecorded) {
  const Recorded recorded = RecordAndRead(2, true);
  struct Row {
    const char* name;
    std::function<void(RecordedResult&)> change;
    What first;
    bool has_slot;
    const char* text;
  };
  const Row rows[] = {
      {"token", [](RecordedResult& r) { r.ids[1] += 1; }, What::kToken, true, ": token "},
      {"logits", [](RecordedResult& r) { r.logits[1] ^= 1; }, What::kLogits, true, ": logits "},
      {"slot table", [](RecordedResult& r) { r.slot_table ^= 1; }, What::kSlotTable, false,
       ": slot table "},
      {"op", [](RecordedResult& r) { r.ops[1].checksum ^= 1; }, What::kOp, false, ": op 2 of "},
      {"another op", [](RecordedResult& r) { r.ops[0].kind = OpKind::kEmbed; }, What::kOp, false,
       "op 1 of "},
      {"one op fewer", [](RecordedResult& r) { r.ops.pop_back(); }, What::kOp, false, "none"},
      {"one op more",
       [](RecordedResult& r) {
         r.ops.push_back({OpKind::kEmbed, 1});
       },
       What::kOp, false, "Embed number 1"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    Recorded changed = recorded;
    RecordedStep& step = BusyStep(changed);
    row.change(*step.result);
    const ReplayReport report = ReplayOf(2, changed);
    EXPECT_FALSE(report.identical());
    ASSERT_EQ(report.first.size(), 1u);
    const ReplayDifference& first = report.first[0];
    EXPECT_EQ(first.what, row.first);
    EXPECT_EQ(first.step, step.step);
    EXPECT_EQ(first.slot, row.has_slot ? step.plan.decodes[1].slot : -1);
    EXPECT_NE(first.expected, first.got);
    EXPECT_THAT(first.ToString(), HasSubstr(row.text));
    // Only another token ends a replay: what comes after it is another history.
    EXPECT_EQ(report.first_token.has_value(), row.first == What::kToken);
    EXPECT_EQ(report.steps, row.first == What::kToken ? step.step : recorded.steps.size());
    EXPECT_EQ(report.differing_steps, 1u);
  }
}

// What the plans say differs: a token of a prompt. Everything that follows from it is told.
TEST(ReplayTest, AnotherPromptShowsWhereItIsRead) {
  Recorded recorded = RecordAndRead(1, true);
  const auto prompt =
      std::find_if(recorded.steps.begin(), recorded.steps.end(), [](const RecordedStep& step) {
        return !step.plan.chunks.empty() && step.plan.chunks[0].scoring != Scoring::kNone;
      });
  ASSERT_NE(prompt, recorded.steps.end());
  int32_t& id = prompt->plan.chunks[0].ids.back();
  id = (id + 1) % 101;
  const ReplayReport report = ReplayOf(1, recorded);
  ASSERT_GE(report.first.size(), 2u);
  EXPECT_EQ(report.first[0].what, What::kOp);
  EXPECT_THAT(report.first[0].op, HasSubstr("op 1 of "));
  EXPECT_THAT(report.first[0].op, HasSubstr("BuildRows"));
  EXPECT_EQ(report.first[1].what, What::kLogits);
  EXPECT_EQ(report.first[1].slot, prompt->plan.chunks[0].slot);
  for (const ReplayDifference& difference : report.first) {
    EXPECT_EQ(difference.step, prompt->step);
  }
}

TEST(ReplayTest, WithoutChecksumsOnlyTokensCount) {
  Recorded recorded = RecordAndRead(1, false);
  for (RecordedStep& step : recorded.steps) {
    step.result->slot_table ^= 1;
    for (uint64_t& row : step.result->logits) row ^= 1;
  }
  const ReplayReport report = ReplayOf(1, recorded, /*checksums=*/false);
  EXPECT_TRUE(report.identical());
  EXPECT_EQ(report.logit_rows, 0u);
  EXPECT_FALSE(ReplayOf(1, recorded).identical());
  BusyStep(recorded).result->ids[0] += 1;
  EXPECT_FALSE(ReplayOf(1, recorded, /*checksums=*/false).identical());
}

TEST(ReplayTest, TheStepWithWhichAWorldEndedRunsAgain) {
  Recorded recorded = RecordAndRead(2, false);
  const uint64_t last = BusyStep(recorded).step;
  recorded.steps.resize(last);
  recorded.steps.back().result.reset();
  const ReplayReport report = ReplayOf(2, recorded);
  EXPECT_TRUE(report.identical());
  EXPECT_EQ(report.without_result, last);
  EXPECT_EQ(report.steps, last - 1);
}

TEST(ReplayTest, DamageEndsItAfterTheStepsBefore) {
  const Recorded recorded = RecordAndRead(2, false);
  std::vector<uint8_t> bytes = BytesOf(recorded);
  bytes[bytes.size() / 2] ^= 1;
  const ReplayReport report = ReplayIn(2, *OpenBytes(bytes), true, false);
  EXPECT_EQ(report.recording.code(), absl::StatusCode::kDataLoss);
  EXPECT_FALSE(report.identical());
  EXPECT_GT(report.steps, 2u);
  EXPECT_LT(report.steps, recorded.steps.size());
  EXPECT_EQ(report.differing_steps, 0u);
}

TEST(ReplayTest, APlanThatCannotBeRunEndsItWithFileOffsetAndReason) {
  const Recorded recorded = RecordAndRead(2, false);
  struct Row {
    std::function<bool(StepPlan&)> change;  // false where the plan has no such place
    const char* said;
  };
  const Row rows[] = {
      {[](StepPlan& plan) {
         if (plan.opens.empty()) return false;
         plan.opens[0].sampling.temperature = -1;
         return true;
       },
       "open of slot 0: sampling.temperature is -1"},
      {[](StepPlan& plan) {
         if (plan.decodes.empty()) return false;
         plan.decodes[0] = {.slot = 7, .scoring = Scoring::kGatheredLogProbs, .num_top = 21};
         return true;
       },
       "slot 7"},
      {[](StepPlan& plan) {
         if (plan.chunks.empty()) return false;
         plan.chunks[0].ids[0] = 101;  // of 101
         return true;
       },
       "token 101"},
      {[](StepPlan& plan) {
         if (plan.num_rows() == 0) return false;
         plan.kind = PlanKind::kIdle;
         return true;
       },
       "an idle or stop plan has "},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.said);
    Recorded changed = recorded;
    const auto at = std::find_if(changed.steps.begin(), changed.steps.end(),
                                 [&](RecordedStep& step) { return row.change(step.plan); });
    ASSERT_NE(at, changed.steps.end());
    const ReplayReport report = ReplayOf(2, changed);
    const std::string message(report.recording.message());
    EXPECT_THAT(message, HasSubstr("test.rec is damaged at byte "));
    EXPECT_THAT(message, HasSubstr("the plan of step " + std::to_string(at->step) + ": "));
    EXPECT_THAT(message, HasSubstr(row.said));
    EXPECT_EQ(report.steps, at->step - 1);
  }
}

TEST(CheckReplaysTest, NamesWhatDoesNotFit) {
  const RecordingHeader header{.weights_fingerprint = "feed",
                               .model = "/models/one",
                               .load = "checkpoint",
                               .slots = 4,
                               .kv_blocks = 10,
                               .max_context = 640,
                               .num_tokens = 100};
  const EngineCapacity fits{.kv_blocks = 11, .slots = 4, .max_context = 704, .num_tokens = 100};
  EXPECT_TRUE(CheckReplays(header, fits, "feed").ok());
  const auto refusal = [&](const EngineCapacity& capacity, const std::string& fingerprint) {
    return std::string(CheckReplays(header, capacity, fingerprint).message());
  };
  EXPECT_THAT(refusal(fits, "dead"), HasSubstr("fingerprint is dead, of the recording feed"));
  EngineCapacity other = fits;
  other.num_tokens = 99;
  EXPECT_THAT(refusal(other, "feed"), HasSubstr("has 99 tokens, that of the recording 100"));
  other = fits;
  other.kv_blocks = 9;
  EXPECT_THAT(refusal(other, "feed"), HasSubstr("9 KV blocks"));
}

}  // namespace
}  // namespace deltaserve
