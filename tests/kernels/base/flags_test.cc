#include "kernels/base/flags.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/build_info.h"

namespace deltaserve {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

class FlagsTest : public testing::Test {
 protected:
  FlagsTest() : flags_("plan", "Prints the partition of a model.") {
    flags_.Add("--ranks", &ranks_, "ranks of the world").In(1, 64);
    flags_.Add("--moe", &moe_, "how experts are cut").OneOf({"tp", "ep"});
    flags_.Add("--listen", &listen_, "where clients connect").HostPort(1);
    flags_.AddBytes("--kv-memory", &kv_memory_, "bytes of the KV pool");
  }

  std::optional<CommandLine::Ending> Read(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "deltaserve-plan");
    return flags_.Read(static_cast<int>(arguments.size()), arguments.data());
  }

  int ranks_ = 2;
  std::string moe_ = "tp", listen_;
  int64_t kv_memory_ = 7;
  CommandLine flags_;
};

TEST_F(FlagsTest, FillsTheVariablesAndGoesOn) {
  EXPECT_FALSE(
      Read({"--ranks", "4", "--moe=ep", "--kv-memory=3M", "--listen=[::1]:5"}).has_value());
  EXPECT_EQ(ranks_, 4);
  EXPECT_EQ(moe_, "ep");
  EXPECT_EQ(listen_, "[::1]:5");
  EXPECT_EQ(kv_memory_, 3 * 1024 * 1024);
}

TEST_F(FlagsTest, KeepsDefaults) {
  EXPECT_FALSE(Read({}).has_value());
  EXPECT_EQ(ranks_, 2);
  EXPECT_EQ(kv_memory_, 7);
}

TEST_F(FlagsTest, VersionNamesBinaryVersionAndBuildId) {
  const auto ending = Read({"--version"});
  ASSERT_TRUE(ending.has_value());
  EXPECT_EQ(ending->code, 0);
  EXPECT_EQ(ending->error, "");
  EXPECT_EQ(ending->output,
            std::string("deltaserve-plan 0.1.0 (build ") + GetBuildInfo().build_id + ")\n");
}

TEST_F(FlagsTest, HelpShowsDescriptionFlagsAndDefaults) {
  const auto ending = Read({"--help"});
  ASSERT_TRUE(ending.has_value());
  EXPECT_EQ(ending->code, 0);
  EXPECT_THAT(ending->output,
              AllOf(HasSubstr("Prints the partition of a model."), HasSubstr("--ranks INT"),
                    HasSubstr("=2"), HasSubstr("--kv-memory BYTES"), HasSubstr("--version")));
}

TEST_F(FlagsTest, RefusesWithFlagValueAndRemedy) {
  const struct {
    const char* argument;
    std::vector<const char*> needles;
  } kCases[] = {
      {"--ranks=many", {"--ranks", "many", "ranks of the world"}},
      {"--ranks=65", {"--ranks", "65", "not in range 1 to 64"}},
      {"--moe=all", {"--moe", "all", "{tp,ep}"}},
      {"--listen=here", {"--listen", "here", "write HOST:PORT with a port from 1 to 65535"}},
      {"--listen=:80", {"--listen", ":80 is no address"}},
      {"--listen=here:0", {"--listen", "here:0 is no address"}},
      {"--listen=[::1]:65536", {"--listen", "[::1]:65536 is no address"}},
      {"--kv-memory=3Q", {"--kv-memory", "\"3Q\"", "such as 512M"}},
      {"--rank=3", {"--rank=3", "not expected"}},
      {"stray", {"stray", "not expected"}},
  };
  for (const auto& test : kCases) {
    const auto ending = Read({test.argument});
    ASSERT_TRUE(ending.has_value()) << test.argument;
    EXPECT_EQ(ending->code, 64);
    EXPECT_EQ(ending->output, "");
    EXPECT_THAT(ending->error, AllOf(StartsWith("deltaserve-plan: "), EndsWith("; see --help\n")));
    for (const char* needle : test.needles) {
      EXPECT_THAT(ending->error, HasSubstr(needle));
    }
  }
}

TEST_F(FlagsTest, RefusesAMissingRequiredFlagByName) {
  std::string model;
  flags_.Add("--model", &model, "folder of the checkpoint").Required();
  const auto ending = Read({});
  ASSERT_TRUE(ending.has_value());
  EXPECT_EQ(
      ending->error,
      "deltaserve-plan: --model is required (--model: folder of the checkpoint); see --help\n");
}

TEST_F(FlagsTest, PrintsOnOneRankOnly) {
  const char* const arguments[] = {"deltaserve-plan", "--version"};
  testing::internal::CaptureStdout();
  EXPECT_EQ(flags_.Parse(2, arguments, /*print=*/false), 0);
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  testing::internal::CaptureStdout();
  EXPECT_EQ(flags_.Parse(2, arguments, /*print=*/true), 0);
  EXPECT_THAT(testing::internal::GetCapturedStdout(), StartsWith("deltaserve-plan 0.1.0"));
}

TEST_F(FlagsTest, RefusesAValueFoundBadLaterInTheSameForm) {
  const absl::Status bad = absl::InvalidArgumentError("--slots is 0: give at least 1");
  testing::internal::CaptureStderr();
  EXPECT_EQ(flags_.Refuse(bad), 64);
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "deltaserve-plan: --slots is 0: give at least 1; see --help\n");
}

// Help says nothing of what is wrong with a model or a network, and nothing twice.
TEST_F(FlagsTest, PointsToHelpOnlyWhereAFlagIsWrong) {
  const std::pair<const char*, const char*> rows[] = {
      {"--moe is all; use tp or ep", "deltaserve-plan: --moe is all; use tp or ep; see --help\n"},
      {"--moe is all; see --help", "deltaserve-plan: --moe is all; see --help\n"},
      {"m/config.json: hidden_size is missing; use --model of a whole folder",
       "deltaserve-plan: m/config.json: hidden_size is missing; use --model of a whole folder\n"}};
  for (const auto& [message, said] : rows) {
    testing::internal::CaptureStderr();
    EXPECT_EQ(flags_.Refuse(absl::InvalidArgumentError(message)), 64);
    EXPECT_EQ(testing::internal::GetCapturedStderr(), said);
  }
}

TEST(ParseBytesTest, TakesDigitsAndPowersOf1024) {
  EXPECT_EQ(ParseBytes("1").value(), 1);
  EXPECT_EQ(ParseBytes("300").value(), 300);
  EXPECT_EQ(ParseBytes("2K").value(), 2048);
  EXPECT_EQ(ParseBytes("512M").value(), int64_t{512} << 20);
  EXPECT_EQ(ParseBytes("24G").value(), int64_t{24} << 30);
  EXPECT_EQ(ParseBytes("8388607T").value(), int64_t{8388607} << 40);
}

TEST(ParseBytesTest, RefusesEverythingElse) {
  for (const char* text : {"", "0", "0G", "-1", "+1", "1.5G", "G", "1GB", "1g", "1 G", " 1", "1e9",
                           "8388608T", "9223372036854775808", "99999999999999999999"}) {
    EXPECT_EQ(ParseBytes(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(BuildInfoTest, KnowsVersionIdAndCompiler) {
  const BuildInfo& info = GetBuildInfo();
  EXPECT_STREQ(info.version, "0.1.0");
  EXPECT_STRNE(info.build_id, "");
  EXPECT_THAT(info.compiler, testing::MatchesRegex("[A-Za-z]+ [0-9.]+"));
}

}  // namespace
}  // namespace deltaserve
