// Starts that cannot be: each binary says once what is wrong, by name and with the remedy, and ends
// with 64.

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
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
      {{"--model", model_, "--quantize", "int4"}, {"--quantize", "int4", "none", "int8"}},
      {{"--model", model_, "--quantize", "int8", "--device", "cuda"},
       {"--quantize is int8", "--device cuda has no 8-bit weights", "use --quantize none"}},
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
  struct Row {
    std::string file, from, to;  // an empty `from`: the file is cut to 3000 bytes
    std::string said;
  };
  const Row rows[] = {
      {"config.json", "qwen3_5_text", "qwen9_9_text", "qwen9_9_text"},
      {"config.json", "{", "[", "config.json: it is not a JSON object; check that the file is"},
      {"config.json", "num_attention_heads", "num_heads", "num_attention_heads is missing"},
      {"config.json", "attention_heads\": 8", "attention_heads\": \"8\"",
       "is \"8\": it must be a whole number from 1"},
      {"config.json", "attention_heads\": 8", "attention_heads\": 7",
       "it must divide num_attention_heads, which is 7"},
      {"config.json", "\"silu\"", "\"gelu\"", "hidden_act is \"gelu\": only silu is supported"},
      {"config.json", "\"default\"", "\"yarn\"", "rope_parameters.rope_type is \"yarn\""},
      {"config.json", "\"bfloat16\"", "\"int8\"", "dtype is \"int8\": weights must be bfloat16"},
      {"config.json", "size\": 1280", "size\": 1281", "by config.json it must be [1281, 128]"},
      {"model.safetensors", "\"BF16\"", "\"F16\" ", "is F16: weights must be BF16 or F32; convert"},
      {"model.safetensors", "[1280,128]", "[128,1280]",
       "is [128, 1280]: by config.json it must be"},
      {"model.safetensors", "0.input", "0.inqut", "is none that this model has"},
      {"model.safetensors", "[0,327680]", "[0,327682]", "has 327682 bytes; copy the checkpoint"},
      {"model.safetensors", "", "", "is longer than the file of 3000 bytes; copy the checkpoint"},
      {"tokenizer.json", "\"BPE\"", "\"WPE\"", "model.type is \"WPE\": only BPE is supported"},
      {"tokenizer.json", "", "", "tokenizer.json (3000 bytes) is not JSON; copy the file again"},
  };
  // What ranks read, by tools that need no MPI.
  const auto read = [&](const std::string& file) {
    if (file == "tokenizer.json") return RunToEnd({Binary("text"), "--model", model_});
    return RunToEnd({Binary("plan"), model_, "--fingerprint"});
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.said);
    const std::string path = model_ + "/" + row.file;
    const std::string good = ReadFile(path).value_or("");
    if (row.from.empty()) {
      std::filesystem::resize_file(path, 3000);
    } else {
      Edit(row.file, row.from, row.to);
    }
    const RunResult run = read(row.file);
    EXPECT_EQ(run.code, kUsage) << run.output;
    EXPECT_THAT(run.output, HasSubstr(row.said));
    std::ofstream(path, std::ios::trunc | std::ios::binary) << good;
  }
  EXPECT_EQ(read("config.json").code, 0);
  EXPECT_EQ(read("tokenizer.json").code, 0);
  Edit("config.json", "\"model_type\": \"qwen3_5\"", "\"model_type\": \"qwen9_9\"");
  const RunResult run = Generate({"--model", model_});
  EXPECT_EQ(run.code, kUsage);
  EXPECT_THAT(run.output, HasSubstr("qwen9_9"));
}

TEST(BadFlagTest, EveryBinaryRefusesByNameAndSaysWhatWouldDo) {
  struct Row {
    std::string binary;
    std::vector<std::string> flags;
    std::string said;
  };
  const Row rows[] = {
      {"router", {}, "--world is \"\" and --world-file \"\": give one of them"},
      {"router",
       {"--world", "h:1", "--world-file", "f"},
       "--world is \"h:1\" and --world-file \"f\""},
      {"router", {"--world", "nowhere"}, "--world: Value nowhere is no address; write HOST:PORT"},
      {"router", {"--world", "h:0"}, "h:0 is no address; write HOST:PORT with a port from 1"},
      {"router", {"--world", "h:1", "--listen", "127.0.0.1"}, "--listen: Value 127.0.0.1 is no"},
      {"router",
       {"--world", "127.0.0.1:1", "--listen", "203.0.113.7:0"},
       "--listen is 203.0.113.7:0: it cannot be listened on; give HOST:PORT of this machine"},
      {"router", {"--world", "h:1", "--default-max-tokens", "0"}, "0 not in range 1 to 16777216"},
      {"router", {"--world", "h:1", "--drain-timeout", "-1"}, "--drain-timeout: Value -1 not in"},
      {"router", {"--world", "h:1", "--log-level", "loud"}, "--log-level is loud: take debug"},
      {"router", {"--world", "h:1", "--lissten", "x"}, "not expected: x --lissten"},
      {"worker", {}, "--model is required"},
      {"worker", {"--model", "none"}, "--model is none: rank 0"},
      {"worker", {"--model", "none", "--listen", "5"}, "--listen: Value 5 is no address"},
      {"worker", {"--model", "none", "--slots", "many"}, "Could not convert: --slots = many"},
      {"worker", {"--model", "none", "--max-queue", "0"}, "--max-queue: Value 0 not in range 1"},
      {"worker",
       {"--model", "none", "--max-context", "-1"},
       "--max-context: Value -1 not at least"},
      {"worker",
       {"--model", "none", "--readers", "65"},
       "--readers: Value 65 not in range 1 to 64"},
      {"worker", {"--model", "none", "--kv-memory", "-1G"}, "--kv-memory: \"-1G\" is not a number"},
      {"generate", {"--model", "m", "--output", "o", "--prompts", "none"}, "--prompts is none: it"},
      {"plan", {}, "model is required"},
      {"plan", {"none"}, "model is none: there is no such file; name a model folder"},
      {"bench_serve", {}, "0 of them are given; give one"},
      {"bench_serve", {"--router", "x"}, "--router: Value x is no address; write HOST:PORT"},
      {"bench_serve", {"--rates", "1,x"}, "--rates is 1,x: write numbers above 0"},
      {"bench_serve", {"--rates", "1", "--concurrency", "2"}, "2 of them are given; give one"},
      {"bench_serve", {"--concurrency", "1.5"}, "--concurrency is 1.5: use whole numbers"},
      {"bench_serve",
       {"--concurrency", "1", "--requests", "0"},
       "--requests: Value 0 not in range"},
      {"bench_serve", {"--concurrency", "1", "--prompt-tokens", "9..3"}, "--prompt-tokens is 9..3"},
      {"bench_serve",
       {"--concurrency", "1", "--output-tokens", "0"},
       "--output-tokens is 0: use N"},
      {"bench_serve", {"--concurrency", "1", "--temperature", "5"}, "5 not in range 0 to 2"},
      {"bench_serve",
       {"--concurrency", "1", "--timeout", "-1"},
       "--timeout: Value -1 not at least"},
      {"bench_serve", {"--trace", "/none"}, "--trace is /none: no request can be read"},
      {"bench_serve",
       {"--concurrency", "1", "--router", "127.0.0.1:1"},
       "--router is 127.0.0.1:1: failed to connect"},
      {"eval", {}, "--questions is required"},
      {"eval", {"--questions", "none", "--router", "x:y"}, "--router: Value x:y is no address"},
      {"eval", {"--questions", "none"}, "--questions is none"},
      {"eval",
       {"--questions", "none", "--concurrency", "0"},
       "--concurrency: Value 0 not in range"},
      {"chat", {"--prompt", "a", "--thinking", "maybe"}, "--thinking: maybe not in {on,off}"},
      {"chat",
       {"--prompt", "a", "--tools", "/none"},
       "--tools is /none: it cannot be read; name a"},
      {"chat", {"--prompt", "a", "--temperature", "hot"}, "Could not convert: --temperature = hot"},
  };
  TempDir folder;
  for (const Row& row : rows) {
    std::vector<std::string> argv = {Binary(row.binary)};
    argv.insert(argv.end(), row.flags.begin(), row.flags.end());
    const RunResult run = RunToEnd(argv, absl::Minutes(1), MpirunEnvironment(folder.path()));
    SCOPED_TRACE(run.output);
    EXPECT_EQ(run.code, kUsage);
    EXPECT_THAT(run.output, HasSubstr(absl::StrCat("deltaserve-", row.binary, ": ")));
    EXPECT_THAT(run.output, HasSubstr(row.said));
    // Where no flag is wrong, help would not help.
    EXPECT_EQ(Count(run.output, "; see --help\n"), row.said.starts_with("model is none") ? 0 : 1);
  }
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
  EXPECT_THAT(run.output,
              AllOf(HasSubstr("--slots is 4096: states, logits and rows of a step take"),
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
