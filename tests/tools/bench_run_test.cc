// The benches run and refuse; how fast is nobody's promise here.

#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/tools/run_tool.h"

namespace deltaserve {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Text(const std::string& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

TEST(BenchOpsTest, RunsWhatIsAskedFor) {
  const test::TempDir folder;
  const ToolResult ran = RunTool("bench_ops", {"--only=rms_norm", "--seconds=0", "--threads=1",
                                               "--read-bytes=4M", "--json", folder / "ops.json"});
  EXPECT_EQ(ran.code, 0) << ran.output;
  EXPECT_THAT(ran.output, AllOf(HasSubstr(", 1 threads: reads "), HasSubstr("\nrms_norm, rows"),
                                HasSubstr("\nadd_rms_norm, rows"), Not(HasSubstr("\nlinear"))));
  EXPECT_THAT(Text(folder / "ops.json"),
              AllOf(HasSubstr("\"tool\": \"bench_ops\""), HasSubstr("\"rms_norm, rows 512")));
}

TEST(BenchOpsTest, ListsItsNamesAndRefusesOthers) {
  const ToolResult listed = RunTool("bench_ops", {"--list", "--only=decode"});
  EXPECT_EQ(listed.code, 0);
  EXPECT_THAT(listed.output, AllOf(HasSubstr("attention, decode, batch 8, depth 4096"),
                                   Not(HasSubstr("prefill"))));
  const ToolResult refused = RunTool("bench_ops", {"--only=nothing"});
  EXPECT_EQ(refused.code, 64);
  EXPECT_THAT(refused.output, HasSubstr("--only is nothing: no name has that"));
}

class BenchWorldTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(RunTool("make_checkpoint",
                      {"--shape=tiny-moe", "--config-only", "--output", folder_ / "model"})
                  .code,
              0);
  }

  std::vector<std::string> Flags(const std::vector<std::string>& more) const {
    std::vector<std::string> flags = {"--model=" + (folder_ / "model"),
                                      "--load=random:1",
                                      "--threads=1",
                                      "--seconds=0",
                                      "--read-bytes=4M",
                                      "--prompts=64",
                                      "--depths=0,128",
                                      "--batches=1,2",
                                      "--slots=2",
                                      "--kv-memory=8M",
                                      "--token-budget=64"};
    for (const std::string& flag : more) {
      const std::string name = flag.substr(0, flag.find('=') + 1);
      std::erase_if(flags, [&](const std::string& other) { return other.starts_with(name); });
      flags.push_back(flag);
    }
    return flags;
  }

  const test::TempDir folder_;
};

TEST_F(BenchWorldTest, TimesPromptsAndDecodesOfTwoRanks) {
  std::vector<std::string> command =
      Flags({"--json=" + (folder_ / "w.json"), "--svg=" + (folder_ / "w.svg")});
  command.insert(command.begin(), test::Binary("bench_world"));
  const test::RunResult ran = test::RunToEnd(test::MpirunCommand(2, command), absl::Minutes(2),
                                             test::MpirunEnvironment(folder_.path()));
  ASSERT_EQ(ran.code, 0) << ran.output;
  for (const char* what : {"2 ranks x 1 threads", "\nprompt 64 ", "\ndecode, depth 0, batch 1 ",
                           "\ndecode, depth 0, batch 2 ", "\ndecode, depth 128, batch 2 "}) {
    EXPECT_THAT(ran.output, HasSubstr(what));
  }
  EXPECT_THAT(Text(folder_ / "w.json"),
              AllOf(HasSubstr("\"ranks\": 2"), HasSubstr("\"peak_memory_bytes\": [")));
  EXPECT_THAT(Text(folder_ / "w.svg"), HasSubstr("5  decode, depth 128, batch 2"));
}

TEST_F(BenchWorldTest, SaysWhatItLeavesOut) {
  // A token of this model has 4 KiB of keys and values: there is room for 1280.
  const ToolResult ran =
      RunTool("bench_world",
              Flags({"--kv-memory=5M", "--prompts=64,2048", "--depths=0,192", "--fill-seconds=0"}));
  EXPECT_EQ(ran.code, 0) << ran.output;
  for (const char* what :
       {"\nprompt 64 ", "\ndecode, depth 0, batch 1 ", "\ndecode, depth 192, batch 1 ",
        "\nprompt 2048: left out, it takes 2048 tokens of context, of which there are 1280\n",
        "\ndecode, depth 0, batch 2: left out, its prompts would take ",
        "\ndecode, depth 192, batch 2: left out, it takes 2 x 704 tokens of --kv-memory"}) {
    EXPECT_THAT(ran.output, HasSubstr(what));
  }
}

TEST_F(BenchWorldTest, RefusesByName) {
  struct Case {
    const char* flag;
    const char* message;
  };
  for (const Case& c : {Case{"--batches=4", "--batches is 4: --slots is 2"},
                        Case{"--batches=2,1", "--batches is 2,1: write whole numbers"},
                        Case{"--prompts=0", "--prompts is 0"},
                        Case{"--record-plans=x", "--record-plans and --record-ops"}}) {
    const ToolResult refused = RunTool("bench_world", Flags({c.flag}));
    EXPECT_EQ(refused.code, 64) << refused.output;
    EXPECT_THAT(refused.output, HasSubstr(c.message));
  }
}

}  // namespace
}  // namespace deltaserve
