// Recordings that someone has changed: none does more than end a replay with an error.

#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/system/process.h"
#include "tests/worker/replay/replay_world.h"

namespace deltaserve {
namespace {

using ::testing::HasSubstr;

constexpr int kRounds = 2000;
constexpr size_t kSteps = 30;  // of the recording, so that a round is short

// The recording with one to three bytes of one plan changed, its checksums made right.
std::vector<uint8_t> Changed(const Recorded& recorded, std::mt19937& random) {
  std::vector<uint8_t> bytes;
  AppendHeader(recorded.header, &bytes);
  const size_t chosen = random() % recorded.steps.size();
  for (size_t i = 0; i < recorded.steps.size(); ++i) {
    const RecordedStep& step = recorded.steps[i];
    std::vector<uint8_t> plan;
    SerializePlan(step.plan, &plan);
    for (auto change = i == chosen ? 1 + random() % 3 : 0; change > 0; --change) {
      constexpr uint8_t kValues[] = {0, 1, 2, 3, 0x7f, 0x80, 0xff};
      uint8_t& byte = plan[random() % plan.size()];
      byte = random() % 2 == 0 ? kValues[random() % 7] : static_cast<uint8_t>(byte + 1);
    }
    AppendPlan(step.step, plan, &bytes);
    AppendResult(step.step, *step.result, &bytes);
  }
  return bytes;
}

struct Counts {
  int refused = 0, differ = 0, same = 0;
};

// One round; the slots are closed again, so that the next begins as this one did.
absl::Status ReplayOnce(const std::vector<uint8_t>& bytes,
                        StepRunner& runner,
                        Executor& executor,
                        Device& device,
                        Counts* counts) {
  // Without checksums: that of the slot table is of all ids that ever came, of rounds before too.
  const auto report = Replay(*OpenBytes(bytes), runner, executor, device, {.checksums = false});
  if (!report.ok()) return report.status();
  const std::string message(report->recording.message());
  if (!report->recording.ok()) {
    EXPECT_EQ(report->recording.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(message, HasSubstr("test.rec is damaged at byte "));
    EXPECT_THAT(message, ::testing::EndsWith("; copy it again, or record again"));
  }
  ++(!report->recording.ok() ? counts->refused
     : report->identical()   ? counts->same
                             : counts->differ);
  StepPlan close{.kind = PlanKind::kIdle};
  for (int32_t slot = 0; slot < executor.capacity().slots; ++slot) {
    if (executor.slots().slot(slot).open) close.closes.push_back(slot);
  }
  return runner.Run(close).status();
}

TEST(ReplayFuzzTest, AChangedPlanIsAnErrorThatNamesFileAndPlaceOrAnotherResult) {
  const test::TempDir folder;
  Record(1, folder / "plans.rec", false);
  auto reader = RecordingReader::OpenFile(folder / "plans.rec");
  ASSERT_TRUE(reader.ok()) << reader.status();
  Recorded recorded = ReadAll(**reader);
  ASSERT_GT(recorded.steps.size(), kSteps);
  recorded.steps.resize(kSteps);
  Counts counts;
  PretendOptions options{.ranks = 1, .engine = RecordedEngine()};
  options.loop = [&](StepRunner& runner, Executor& executor, Device& device) {
    std::mt19937 random(1);
    for (int round = 0; round < kRounds; ++round) {
      absl::Status status =
          ReplayOnce(Changed(recorded, random), runner, executor, device, &counts);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  };
  auto world = PretendWorld::Start(options, Factory());
  ASSERT_TRUE(world.ok()) << world.status();
  for (const absl::Status& status : (*world)->End()) EXPECT_TRUE(status.ok()) << status;
  // Every outcome is there, so the changes reach all that is looked at.
  EXPECT_GT(counts.refused, kRounds / 10);
  EXPECT_GT(counts.differ, kRounds / 100);
  EXPECT_GT(counts.same, kRounds / 100);
}

}  // namespace
}  // namespace deltaserve
