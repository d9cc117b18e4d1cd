// Starts that cannot be: each binary says once what is wrong, by name and with the remedy, and ends
// with 64.

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/system/process.h"

namespace deltaserve::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int kUsage = 64;

int Count(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

class BadStartTest : public ::testing::Test {
 protected:
  BadStartTest() : model_(folder_ / "model") {
    const RunResult made =
        RunToEnd({Binary("make_checkpoint"), "--shape", "tiny-dense", "--output", model_});
    EXPECT_EQ(made.code, 0) << made.output;
    std::ofstream(folder_ / "in.jsonl") << "{\"id\": 1, \"ids\": [1]}\n";
  }

  // deltaserve-generate of this model with `flags` more.
  RunResult Generate(const std::vector<std::string>& flags) {
    std::vector<std::string> argv = {Binary("generate"), "--prompts", folder_ / "in.jsonl",
                                     "--output", folder_ / "out.jsonl"};
    argv.insert(argv.end(), flags.begin(), flags.end());
    return RunToEnd(argv, absl::Minutes(1), MpirunEnvironment(folder_.path()));
  }

  // Rewrites one file of the model.
  void Edit(const std::string& file, const std::string& from, const std::string& to) {
    std::string text = ReadFile(model_ + "/" + file).value_or("");
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    std::ofstream(model_ + "/" + file, std::ios::trunc) << text;
  }

  TempDir folder_;
  std::string model_;
};

TEST_F(BadStartTest, FlagsAreRefusedByName) {
  struct Row {
    std::vector<std::string> flags;
    std::vector<std::string> said;
  };
  const Row rows[] = {
      {{"--model", folder_ / "none"}, {"--model is", "none", "config.json"}},
      {{"--model", model_, "--load", "random"}, {"--load is random", "random:SEED"}},
      {{"--model", model_, "--load", "random:x"}, {"--load is random:x", "random:SEED"}},
      {{"--model", model_, "--moe", "pp"}, {"--moe", "pp"}},
      {{"--model", model_, "--linear-attention", "split"}, {"--linear-attention", "split"}},
      {{"--model", model_, "--device", "cuda"}, {"cuda", "--device=cpu"}},
      {{"--model", model_, "--device", "tpu"}, {"--device", "tpu"}},
      {{"--model", model_, "--kv-memory", "1K"}, {"kv"}},
      {{"--model", model_, "--kv-memory", "lots"}, {"--kv-memory", "lots"}},
      {{"--model", model_, "--slots", "0"}, {"--slots", "0"}},
      {{"--model", model_, "--slots", "5000"}, {"--slots", "5000", "4096"}},
      {{"--model", model_, "--max-queue", "0"}, {"--max-queue", "0"}},
      {{"--model", model_, "--max-queue-tokens", "0"}, {"--max-queue-tokens", "0"}},
      {{"--model", model_, "--token-budget", "10"}, {"--token-budget is 10", "use 64 to"}},
      {{"--model", model_, "--max-context", "32769"},
       {"--max-context is 32769", "max_position_embeddings", "use at most 32768"}},
      {{"--model", model_, "--max-context", "4096", "--kv-memory", "1M"},
       {"--max-context is 4096", "--kv-memory is 1048576", "use at most 256", "--kv-memory 16777"}},
      {{"--model", model_, "--token-budget", "-64"}, {"--token-budget", "-64"}},
      {{"--model", model_, "--threads", "-1"}, {"--threads", "-1"}},
      {{"--model", model_, "--log-level", "loud"}, {"--log-level", "loud"}},
      {{"--model", model_, "--no-such-flag"}, {"--no-such-flag"}},
      {{}, {"--model"}},
  };
  for (const Row& row : rows) {
    const RunResult run = Generate(row.flags);
    SCOPED_TRACE(run.output);
    EXPECT_EQ(run.code, kUsage);
    EXPECT_THAT(run.output, HasSubstr("deltaserve-generate: "));
    for (const std::string& part : row.said) EXPECT_THAT(run.output, HasSubstr(part));
  }
}

TEST_F(BadStartTest, FilesOfAModelAreRefusedByName) {
  Edit("config.json", "\"model_type\": \"qwen3_5", "\"model_type\": \"qwen9_9");
  EXPECT_THAT(Generate({"--model", model_}).output, HasSubstr("qwen9_9"));
  Edit("config.json", "qwen9_9", "qwen3_5");
  const std::string weights = model_ + "/model.safetensors";
  ASSERT_TRUE(std::filesystem::exists(weights));
  std::filesystem::resize_file(weights, std::filesystem::file_size(weights) - 100);
  const RunResult run = Generate({"--model", model_});
  EXPECT_EQ(run.code, kUsage) << run.output;
  EXPECT_THAT(run.output, HasSubstr("model.safetensors"));
}

// Its states would take terabytes, its weights a few gigabytes.
TEST_F(BadStartTest, FlagsThatMemoryCannotHoldEndEveryRankBeforeAWeightIsRead) {
  Edit("config.json", "\"linear_num_value_heads\": 8", "\"linear_num_value_heads\": 8192");
  const RunResult run =
      RunToEnd(MpirunCommand(4, {Binary("worker"), "--model", model_, "--load", "random:1",
                                 "--slots", "4096", "--kv-memory", "32M", "--max-context", "64"}),
               absl::Minutes(1), MpirunEnvironment(folder_.path()));
  SCOPED_TRACE(run.output);
  EXPECT_EQ(run.code, kUsage);
  EXPECT_EQ(Count(run.output, "deltaserve-worker: "), 1);
  EXPECT_THAT(run.output, AllOf(HasSubstr("--slots is 4096: states and logits take"),
                                HasSubstr("a rank has"), HasSubstr("use at most")));
  EXPECT_EQ(Count(run.output, "weights of this rank"), 0) << "weights were drawn";
}

// The failure comes after the ranks are linked: no rank may take another's end for its death.
TEST_F(BadStartTest, ABadTensorEndsEveryRankWithOneMessage) {
  const std::string weights = model_ + "/model.safetensors";
  std::filesystem::resize_file(weights, std::filesystem::file_size(weights) - 100);
  const RunResult run = RunToEnd(MpirunCommand(4, {Binary("worker"), "--model", model_}),
                                 absl::Minutes(1), MpirunEnvironment(folder_.path()));
  EXPECT_EQ(run.code, kUsage) << run.output;
  EXPECT_EQ(Count(run.output, "deltaserve-worker: "), 1) << run.output;
  EXPECT_THAT(run.output, HasSubstr("model.safetensors"));
}

TEST_F(BadStartTest, TheOutputIsNotTheFileOfThePrompts) {
  const RunResult run = RunToEnd({Binary("generate"), "--model", model_, "--prompts",
                                  folder_ / "in.jsonl", "--output", folder_ / "in.jsonl"});
  EXPECT_EQ(run.code, kUsage);
  EXPECT_THAT(run.output, HasSubstr("--output"));
  EXPECT_TRUE(ReadFile(folder_ / "in.jsonl").has_value());
}

TEST_F(BadStartTest, AnImpossibleDegreeEndsEveryRankWithOneMessage) {
  const RunResult run = RunToEnd(MpirunCommand(3, {Binary("worker"), "--model", model_}),
                                 absl::Minutes(1), MpirunEnvironment(folder_.path()));
  EXPECT_EQ(run.code, kUsage) << run.output;
  EXPECT_EQ(Count(run.output, "3 ranks cannot share"), 1) << run.output;
  EXPECT_THAT(run.output,
              AllOf(HasSubstr("num_attention_heads"), HasSubstr("use 1, 2 or 4 ranks")));
  EXPECT_EQ(Count(run.output, "read "), 0) << "a weight was read: " << run.output;
}

// Found when every rank has loaded: the others must end with rank 0.
TEST_F(BadStartTest, AnAddressInUseIsNamedByItsFlag) {
  const int other = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  auto* any = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(bind(other, any, length), 0);
  ASSERT_EQ(listen(other, 1), 0);
  ASSERT_EQ(getsockname(other, any, &length), 0);
  const std::string taken = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  const RunResult run = RunToEnd(MpirunCommand(2, {Binary("worker"), "--model", model_, "--listen",
                                                   "127.0.0.1:0", "--metrics-listen", taken}),
                                 absl::Minutes(1), MpirunEnvironment(folder_.path()));
  close(other);
  EXPECT_EQ(run.code, kUsage) << run.output;
  EXPECT_EQ(Count(run.output, "deltaserve-worker: --metrics-listen is " + taken), 1) << run.output;
}

}  // namespace
}  // namespace deltaserve::test
