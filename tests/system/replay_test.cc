// --record-plans and deltaserve-replay: real ranks, real files.

#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/system/process.h"
#include "tests/system/served_model.h"

namespace deltaserve::test {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

// Answers a few prompts of a tiny model with 2 ranks, recorded in `folder`/plans.rec.
void Record(const TempDir& folder) {
  const RunResult made =
      RunToEnd({Binary("make_checkpoint"), "--shape", "tiny-dense", "--output", folder / "model"});
  ASSERT_EQ(made.code, 0) << made.output;
  std::ofstream(folder / "in.jsonl")
      << R"({"ids": [1, 2, 3], "max_tokens": 12, "temperature": 0, "ignore_eos": true})"
      << "\n"
      << R"({"ids": [4, 5], "max_tokens": 9, "temperature": 1, "top_k": 9, "ignore_eos": true})"
      << "\n"
      << R"({"ids": [6, 7], "max_tokens": 5, "logprobs": 2, "logits_at": [0], "ignore_eos": true})"
      << "\n";
  std::vector<std::string> command = OneThread();
  command.insert(command.begin(),
                 {Binary("generate"), "--model", folder / "model", "--prompts", folder / "in.jsonl",
                  "--output", folder / "out.jsonl", "--kv-memory", "32M", "--slots", "2",
                  "--record-plans", folder / "plans.rec", "--record-ops"});
  const RunResult run =
      RunToEnd(MpirunCommand(2, command), absl::Minutes(2), MpirunEnvironment(folder.path()));
  ASSERT_EQ(run.code, 0) << run.output;
}

// On 2 ranks.
RunResult Replay(const std::string& temporary,
                 const std::string& file,
                 const std::vector<std::string>& flags) {
  std::vector<std::string> command = OneThread();
  command.insert(command.begin(), {Binary("replay"), file, "--log-level", "warn"});
  command.insert(command.end(), flags.begin(), flags.end());
  return RunToEnd(MpirunCommand(2, command), absl::Minutes(2), MpirunEnvironment(temporary));
}

// Changes one value in the middle of a tensor, where no fingerprint looks.
void Damage(const std::string& file, const std::string& tensor) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  uint64_t length = 0;
  stream.read(reinterpret_cast<char*>(&length), sizeof(length));
  std::string header(length, ' ');
  stream.read(header.data(), static_cast<std::streamsize>(length));
  const nlohmann::json entry = nlohmann::json::parse(header).at(tensor);
  const auto begin = entry["data_offsets"][0].get<uint64_t>();
  const auto end = entry["data_offsets"][1].get<uint64_t>();
  const auto at = static_cast<std::streamoff>(8 + length + begin + ((end - begin) / 2 | 1));
  stream.seekg(at);
  const int byte = stream.get();
  stream.seekp(at);
  stream.put(static_cast<char>(byte ^ 0x02));  // of the exponent
  ASSERT_TRUE(stream.good());
}

TEST(ReplayTest, AWorldOfTwoRanksComesAgainAndADamagedWeightIsNamed) {
  const TempDir folder;
  Record(folder);
  const std::string file = folder / "plans.rec";
  struct stat found = {};
  ASSERT_EQ(stat(file.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777, 0600U);

  const RunResult same = Replay(folder.path(), file, {"--per-op"});
  EXPECT_EQ(same.code, 0) << same.output;
  EXPECT_THAT(same.output, ContainsRegex("identical: compared 26 tokens, 27 rows of logits, the "
                                         "slot tables, [0-9]+ ops of [0-9]+ steps"));

  const RunResult alone = RunToEnd({Binary("replay"), file});
  EXPECT_EQ(alone.code, 64) << alone.output;
  EXPECT_THAT(alone.output, HasSubstr("is of 2 ranks, this world has 1; use mpirun -n 2"));

  std::filesystem::copy(folder / "model", folder / "damaged");
  ASSERT_NO_FATAL_FAILURE(Damage(folder / "damaged/model.safetensors",
                                 "model.language_model.layers.1.mlp.down_proj.weight"));
  const RunResult other = Replay(folder.path(), file, {"--per-op", "--model", folder / "damaged"});
  EXPECT_EQ(other.code, 1) << other.output;
  EXPECT_THAT(other.output, ContainsRegex("different: compared"));
  EXPECT_THAT(other.output, ContainsRegex("step [0-9]+: op [0-9]+ of [0-9]+, Linear number"));
  EXPECT_THAT(other.output, ContainsRegex("step [0-9]+, slot 0: logits"));
}

TEST(ReplayTest, AKilledWorldIsShownAndRunAgain) {
  const TempDir folder;
  const std::string file = folder / "plans.rec";
  ServedModel served(2, {"--record-plans", file, "--quantize", "int8"});
  grpc::ClientContext context;
  std::thread client([&] { Generate(served.inference(), GreedyRequest("on", 4000), context); });
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  while (std::filesystem::file_size(file) < 20000 && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  kill(served.RankPids()[0], SIGKILL);
  EXPECT_TRUE(served.world().Wait(absl::Minutes(1)).has_value());
  context.TryCancel();
  client.join();

  const RunResult shown = RunToEnd({Binary("replay"), file, "--show"});
  EXPECT_EQ(shown.code, 0) << shown.output;
  EXPECT_THAT(shown.output, HasSubstr("--quantize int8; "));
  EXPECT_THAT(shown.output, HasSubstr("open slot 0: state 0, blocks 0"));
  EXPECT_THAT(shown.output, HasSubstr("decode slot 0 (merged) -> "));
  const RunResult again = Replay(folder.path(), file, {});
  EXPECT_EQ(again.code, 0) << again.output;
  EXPECT_THAT(again.output, HasSubstr("identical: compared "));
  const RunResult per_op = RunToEnd({Binary("replay"), file, "--per-op"});
  EXPECT_EQ(per_op.code, 64) << per_op.output;
  EXPECT_THAT(per_op.output, HasSubstr("record with --record-ops"));
}

}  // namespace
}  // namespace deltaserve::test
