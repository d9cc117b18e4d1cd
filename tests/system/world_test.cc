// Whole deployments: what a user sees of a 2-rank world behind a router.

#include <signal.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/system/served_model.h"

namespace deltaserve::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// How long a world may take to be gone after a rank died: 10 s promised, asserted at three times
// that.
constexpr absl::Duration kGoneTimeout = absl::Seconds(30);

// Bit for bit: token, log-probability, rank and alternatives.
using Score = std::tuple<uint32_t, float, uint32_t, std::vector<std::pair<uint32_t, float>>>;

std::vector<Score> Scores(const nlohmann::json& list) {
  std::vector<Score> scores;
  for (const auto& item : list) {
    auto& score = scores.emplace_back(item["token_id"], item["logprob"], item["rank"],
                                      std::vector<std::pair<uint32_t, float>>());
    for (const auto& entry : item["top"]) {
      std::get<3>(score).emplace_back(entry["token_id"], entry["logprob"]);
    }
  }
  return scores;
}

std::vector<Score> Scores(const std::vector<v1::TokenLogprob>& list) {
  std::vector<Score> scores;
  for (const v1::TokenLogprob& item : list) {
    auto& score = scores.emplace_back(item.token_id(), item.logprob(), item.rank(),
                                      std::vector<std::pair<uint32_t, float>>());
    for (const auto& entry : item.top()) {
      std::get<3>(score).emplace_back(entry.token_id(), entry.logprob());
    }
  }
  return scores;
}

TEST(WorldTest, StreamsWhatTheOfflineGeneratorGives) {
  ServedModel served(2);
  grpc::ClientContext context;
  std::string text = "The list";  // scored in several steps
  for (int i = 0; i < 59; ++i) absl::StrAppend(&text, " ", 413 + i);
  v1::GenerateRequest request = GreedyRequest(text, 40);
  request.mutable_options()->mutable_output()->set_prompt_logprobs(3);
  request.mutable_options()->mutable_output()->add_logprob_token_ids(7);
  const Answer answer = Generate(served.inference(), request, context);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_TRUE(answer.in_order);
  EXPECT_EQ(answer.finished.reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(answer.finished.usage().completion_tokens(), 40U);
  EXPECT_GT(answer.prompt_logprobs.size(), 64U);
  EXPECT_EQ(answer.prompt_logprobs.size() + 1, answer.finished.usage().prompt_tokens());

  v1::ListModelsResponse models;
  grpc::ClientContext listing;
  ASSERT_TRUE(served.inference().ListModels(&listing, {}, &models).ok());
  EXPECT_THAT(models.models(0).capabilities(), ::testing::Contains("prompt_logprobs"));

  TempDir folder;
  const std::string prompts = folder / "in.jsonl";
  const std::string output = folder / "out.jsonl";
  {
    std::ofstream out(prompts);
    out << R"({"id": 1, "max_tokens": 40, "temperature": 0, "ignore_eos": true, )"
        << R"("prompt_logprobs": 3, "logprob_token_ids": [7], "text": ")" << text << "\"}"
        << "\n{\"id\": 2, \"text\": 5}\n";
  }
  std::vector<std::string> command = OneThread();
  command.insert(command.begin(), {Binary("generate"), "--model", served.model(), "--prompts",
                                   prompts, "--output", output, "--kv-memory", "32M"});
  const RunResult run =
      RunToEnd(MpirunCommand(2, command), kStartTimeout, MpirunEnvironment(folder.path()));
  ASSERT_EQ(run.code, 0) << run.output;
  std::istringstream lines(ReadFile(output).value_or(""));
  std::string line;
  std::getline(lines, line);
  const auto first = nlohmann::json::parse(line);
  EXPECT_EQ(first["tokens"].size(), answer.tokens.size());
  EXPECT_EQ(first["logprobs"].size(), answer.logprobs.size());
  EXPECT_EQ(first["prompt_logprobs"].size(), answer.prompt_logprobs.size());
  if (!RanksAreOnGpus()) {
    EXPECT_EQ(first["tokens"].get<std::vector<uint32_t>>(), answer.tokens);
    EXPECT_EQ(first["text"].get<std::string>(), answer.text);
    EXPECT_EQ(Scores(first["logprobs"]), Scores(answer.logprobs));
    EXPECT_EQ(Scores(first["prompt_logprobs"]), Scores(answer.prompt_logprobs));
  }
  std::getline(lines, line);
  const auto second = nlohmann::json::parse(line);
  EXPECT_EQ(second["id"], 2);
  EXPECT_EQ(second["error"]["field"], "text");
}

struct Choices {
  grpc::Status status;
  int num_started = 0;
  std::vector<std::string> texts;
  std::vector<std::vector<uint32_t>> tokens;
  std::vector<v1::Finished> finished;  // of each choice, in the order in which they ended
};

Choices GenerateSeveral(v1::Inference::Stub& stub, const v1::GenerateRequest& request) {
  const uint32_t n = request.options().n();
  Choices choices;
  choices.texts.resize(n);
  choices.tokens.resize(n);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(1));
  const auto stream = stub.Generate(&context, request);
  v1::GenerateEvent event;
  while (stream->Read(&event)) {
    if (event.has_started()) ++choices.num_started;
    if (event.has_finished()) choices.finished.push_back(event.finished());
    if (!event.has_delta()) continue;
    const v1::TextDelta& delta = event.delta();
    std::vector<uint32_t>& tokens = choices.tokens.at(delta.choice());
    EXPECT_EQ(delta.first_index(), tokens.size());
    choices.texts.at(delta.choice()) += delta.text();
    tokens.insert(tokens.end(), delta.tokens().ids().begin(), delta.tokens().ids().end());
  }
  choices.status = stream->Finish();
  return choices;
}

// More choices than slots: some wait, and that changes nothing of them.
TEST(WorldTest, ChoicesAreAnswersOfTheirOwnAndTheFirstIsTheOneOfOne) {
  constexpr uint32_t kTokens = 30;
  ServedModel served(2, {"--slots", "4", "--max-queue", "8"});
  v1::GenerateRequest request = GreedyRequest("Once more", kTokens);
  v1::CallOptions& options = *request.mutable_options();
  options.mutable_sampling()->set_temperature(1);
  options.mutable_sampling()->set_seed(9);
  grpc::ClientContext context;
  const Answer one = Generate(served.inference(), request, context);
  ASSERT_TRUE(one.status.ok()) << one.status.error_message();
  options.set_n(7);
  const Choices seven = GenerateSeveral(served.inference(), request);
  ASSERT_TRUE(seven.status.ok()) << seven.status.error_message();
  EXPECT_EQ(seven.num_started, 1);
  if (!RanksAreOnGpus()) {
    EXPECT_EQ(seven.tokens[0], one.tokens);
    EXPECT_EQ(seven.texts[0], one.text);
  }
  const std::set<std::vector<uint32_t>> distinct(seven.tokens.begin(), seven.tokens.end());
  EXPECT_EQ(distinct.size(), 7U);
  std::set<uint32_t> ended;
  for (const v1::Finished& finished : seven.finished) {
    ended.insert(finished.choice());
    EXPECT_EQ(finished.reason(), v1::FINISH_REASON_LENGTH);
    EXPECT_EQ(finished.usage().completion_tokens(), kTokens);
    EXPECT_EQ(finished.usage().prompt_tokens(), one.finished.usage().prompt_tokens());
  }
  EXPECT_EQ(ended.size(), 7U);
  EXPECT_EQ(seven.finished.size(), 7U);
  options.set_n(3);
  const Choices three = GenerateSeveral(served.inference(), request);
  ASSERT_TRUE(three.status.ok()) << three.status.error_message();
  EXPECT_EQ(three.finished.size(), 3U);
  if (!RanksAreOnGpus()) {
    EXPECT_THAT(three.tokens, ElementsAre(seven.tokens[0], seven.tokens[1], seven.tokens[2]));
  }

  options.set_n(13);
  const Choices refused = GenerateSeveral(served.inference(), request);
  EXPECT_EQ(refused.status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(DetailOf(refused.status).field(), "n");
  EXPECT_THAT(refused.status.error_message(), HasSubstr("4 slots and 8 queue places"));

  // All places are taken: the second call is refused as a whole and leaves nothing behind, and the
  // first one's cancel empties the world.
  options.set_n(12);
  options.mutable_stop()->set_max_tokens(400);
  grpc::ClientContext first_context;
  const auto first = served.inference().Generate(&first_context, request);
  v1::GenerateEvent event;
  ASSERT_TRUE(first->Read(&event));
  v1::Load load;
  while (load.running() + load.waiting() < 12) load = served.Report().load();
  options.set_n(2);
  const Choices full = GenerateSeveral(served.inference(), request);
  EXPECT_EQ(full.status.error_code(), grpc::RESOURCE_EXHAUSTED) << full.status.error_message();
  EXPECT_EQ(DetailOf(full.status).code(), v1::ERROR_CODE_QUEUE_FULL);
  EXPECT_TRUE(DetailOf(full.status).retryable());
  first_context.TryCancel();
  const v1::WorldReport empty = served.WaitUntilEmpty();
  EXPECT_EQ(empty.load().running() + empty.load().waiting(), 0U);
  EXPECT_EQ(empty.load().kv_blocks_used(), 0U);
  while (first->Read(&event)) {
  }
  EXPECT_EQ(first->Finish().error_code(), grpc::CANCELLED);
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
