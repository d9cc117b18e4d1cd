// Whole deployments: what a user sees of a 2-rank world behind a router.

#include <signal.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/system/served_model.h"

namespace deltaserve::test {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

// How long a world may take to be gone after a rank died: 10 s promised, asserted at three times
// that.
constexpr absl::Duration kGoneTimeout = absl::Seconds(30);

TEST(WorldTest, StreamsWhatTheOfflineGeneratorGives) {
  ServedModel served(2);
  grpc::ClientContext context;
  const Answer answer = Generate(served.inference(), GreedyRequest("Hello, world", 40), context);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_TRUE(answer.in_order);
  EXPECT_EQ(answer.finished.reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(answer.finished.usage().completion_tokens(), 40U);

  TempDir folder;
  const std::string prompts = folder / "in.jsonl";
  const std::string output = folder / "out.jsonl";
  {
    std::ofstream out(prompts);
    out << R"({"id": 1, "text": "Hello, world", "max_tokens": 40, "temperature": 0, "ignore_eos": true})"
        << "\n{\"id\": 2, \"text\": 5}\n";
  }
  const RunResult run = RunToEnd(
      MpirunCommand(2, {Binary("generate"), "--model", served.model(), "--prompts", prompts,
                        "--output", output, "--threads", "1", "--kv-memory", "32M"}),
      kStartTimeout, MpirunEnvironment(folder.path()));
  ASSERT_EQ(run.code, 0) << run.output;
  std::istringstream lines(ReadFile(output).value_or(""));
  std::string line;
  std::getline(lines, line);
  const auto first = nlohmann::json::parse(line);
  EXPECT_EQ(first["tokens"].get<std::vector<uint32_t>>(), answer.tokens);
  EXPECT_EQ(first["text"].get<std::string>(), answer.text);
  std::getline(lines, line);
  const auto second = nlohmann::json::parse(line);
  EXPECT_EQ(second["id"], 2);
  EXPECT_EQ(second["error"]["field"], "text");
}

class KilledRankTest : public ::testing::TestWithParam<int> {};

TEST_P(KilledRankTest, EndsTheWorldWithItsRootCause) {
  const int killed = GetParam();
  ServedModel served(4, {"--moe", "ep", "--linear-attention", "replicated"});
  const std::vector<int> pids = served.RankPids();
  ASSERT_EQ(pids.size(), 4U);
  // In the middle of a stream.
  grpc::ClientContext context;
  const auto stream = served.inference().Generate(&context, GreedyRequest("a long answer", 8000));
  v1::GenerateEvent event;
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(stream->Read(&event));
  kill(pids[static_cast<size_t>(killed)], SIGKILL);
  while (stream->Read(&event)) {
  }
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::UNAVAILABLE) << status.error_message();
  const v1::ErrorDetail detail = DetailOf(status);
  EXPECT_EQ(detail.code(), v1::ERROR_CODE_WORLD_LOST);
  EXPECT_TRUE(detail.retryable());

  const absl::Time start = absl::Now();
  const auto code = served.world().Wait(kGoneTimeout);
  ASSERT_TRUE(code.has_value()) << served.world().Log();
  RecordProperty("seconds_until_gone", absl::FormatDuration(absl::Now() - start));
  EXPECT_NE(*code, 0);
  EXPECT_THAT(served.world().Log(), HasSubstr(absl::StrCat("rank ", killed, " on ")));
  while (!ProcessesNaming(served.model()).empty() && absl::Now() < start + kGoneTimeout) {
    absl::SleepFor(absl::Milliseconds(20));
  }
  EXPECT_THAT(ProcessesNaming(served.model()), IsEmpty());
  // The router lives and says why it has nothing to offer.
  grpc::ClientContext again;
  const Answer refused = Generate(served.inference(), GreedyRequest("hello", 3), again);
  EXPECT_EQ(DetailOf(refused.status).code(), v1::ERROR_CODE_WORLD_LOST);
  EXPECT_TRUE(served.router().running());
}

INSTANTIATE_TEST_SUITE_P(FirstAndLast, KilledRankTest, ::testing::Values(0, 3));

TEST(WorldTest, DrainsOnSignalsAndFinishesWhatRuns) {
  ServedModel served(2);
  grpc::ClientContext context;
  const auto stream = served.inference().Generate(&context, GreedyRequest("keep going", 200));
  v1::GenerateEvent event;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(stream->Read(&event));
  served.world().Signal(SIGUSR1);
  served.router().Signal(SIGTERM);
  v1::Finished finished;
  while (stream->Read(&event)) {
    if (event.has_finished()) finished = event.finished();
  }
  const grpc::Status status = stream->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(finished.usage().completion_tokens(), 200U);
  EXPECT_EQ(served.router().Wait(kGoneTimeout), 0) << served.router().Log();
  EXPECT_EQ(served.world().Wait(kGoneTimeout), 0) << served.world().Log();
}

// Idle ranks sleep: two seconds without work cost far less than two seconds of a core.
TEST(WorldTest, IdleRanksSleep) {
  ServedModel served(2);
  grpc::ClientContext context;
  ASSERT_TRUE(Generate(served.inference(), GreedyRequest("warm", 3), context).status.ok());
  const auto ticks = [&served] {
    int64_t sum = 0;
    for (const int pid : served.RankPids()) {
      std::istringstream stat(ReadFile(absl::StrCat("/proc/", pid, "/stat")).value_or(""));
      std::string field;
      for (int i = 1; i <= 15 && stat >> field; ++i) {
        if (i >= 14) sum += std::stoll(field);  // utime, stime
      }
    }
    return sum;
  };
  const int64_t before = ticks();
  absl::SleepFor(absl::Seconds(2));
  const int64_t used = ticks() - before;
  // 200 ticks are one core; promised are 0.2 % a rank, asserted with room for gRPC's own timers.
  EXPECT_LT(used, 20) << "ticks of 10 ms in 2 s of two idle ranks";
}

}  // namespace
}  // namespace deltaserve::test
