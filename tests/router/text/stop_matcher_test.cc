#include "router/text/stop_matcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/router/text/pieces.h"

namespace deltaserve {
namespace {

using testing::ElementsAre;

struct Sample {
  std::vector<std::string> stops;
  std::string text;
  std::string before;          // the text with include_stop false
  std::string with;            // the text with include_stop true
  std::optional<size_t> stop;  // index of the match
};

const std::vector<Sample>& Samples() {
  static const auto& samples = *new std::vector<Sample>{
      {{}, "anything", "anything", "anything", {}},
      {{"x"}, "", "", "", {}},
      {{"stop"}, "no match here", "no match here", "no match here", {}},
      {{"stop"}, "stop", "", "stop", 0},
      {{"stop"}, "now stop it", "now ", "now stop", 0},
      {{"stop"}, "sto", "sto", "sto", {}},
      {{"stop"}, "ststop", "st", "ststop", 0},
      {{"stop"}, "stostop!", "sto", "stostop", 0},
      {{"stop"}, "Stop", "Stop", "Stop", {}},
      {{"\n\n"}, "a\n\nb\n\n", "a", "a\n\n", 0},
      {{"\n\n"}, "a\nb\n", "a\nb\n", "a\nb\n", {}},
      {{"aab"}, "aaaaab", "aaa", "aaaaab", 0},  // a border of a border
      {{"abab"}, "ababab", "", "abab", 0},      // the first end counts
      {{"abacab"}, "abacabacab", "", "abacab", 0},
      {{"abacabad"}, "abacabacabad", "abac", "abacabacabad", 0},
      {{"abcd", "bc"}, "abcd", "a", "abc", 1},  // "bc" is whole first
      {{"bc", "abc"}, "xabc", "x", "xabc", 1},  // both end here, the longest counts
      {{"abc", "bc", "c"}, "xabc", "x", "xabc", 0},
      {{"c", "c"}, "abc", "ab", "abc", 0},  // equal ones: the first
      {{"User:", "Assistant:"}, "Hi\nAssistant: User:", "Hi\n", "Hi\nAssistant:", 1},
      {{"ab", "abc"}, "abc", "", "ab", 0},  // the longer can never be whole
      {{"é"}, "caf\xC3\xA9!", "caf", "caf\xC3\xA9", 0},
      {{"é"}, "caf\xC3\xA8!", "caf\xC3\xA8!", "caf\xC3\xA8!", {}},  // a shared first byte
      {{"😁", "\xF0\x9F\x98\x82"}, "ok 😂 x", "ok ", "ok 😂", 1},
      {{"我想"}, "我我想", "我", "我我想", 0},
      {{std::string("\0x", 2)},
       std::string("a\0\0xb", 5),
       std::string("a\0", 2),
       std::string("a\0\0x", 4),
       0},
      {{"</answer>", "</a>"}, "1</a</answer></a>", "1</a", "1</a</answer>", 0},
      {{std::string(kMaxStopStringBytes, 'a')},
       std::string(kMaxStopStringBytes + 1, 'a'),
       "",
       std::string(kMaxStopStringBytes, 'a'),
       0},
      {{std::string(200, 'a') + "b"},
       std::string(300, 'a') + "c",
       std::string(300, 'a') + "c",
       std::string(300, 'a') + "c",
       {}},
      {{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "A", "B", "C", "D", "E", "F"},
       "xyzF0",
       "xyz",
       "xyzF",
       15},
  };
  return samples;
}

TEST(StopMatcherTest, EndsTheTextAtTheFirstStopStringWhateverThePieces) {
  for (const Sample& sample : Samples()) {
    ASSERT_FALSE(CheckStopStrings(sample.stops).has_value());
    for (const bool include_stop : {false, true}) {
      ForEachSplit(sample.text, [&](const Pieces& pieces) {
        StopMatcher matcher(sample.stops, include_stop);
        std::string text;
        std::optional<size_t> matched;
        for (const std::string_view piece : pieces) {
          const StopMatcher::Result result = matcher.Add(piece);
          text += result.text;
          if (result.matched) {
            EXPECT_FALSE(matched.has_value()) << "told twice";
            matched = result.matched;
          }
        }
        text += matcher.Finish();
        EXPECT_EQ(text, include_stop ? sample.with : sample.before) << sample.text;
        EXPECT_EQ(matched, sample.stop) << sample.text;
        EXPECT_EQ(matcher.matched(), sample.stop);
      });
    }
  }
}

// What is held back longer than needed is text that a client waits for.
TEST(StopMatcherTest, HoldsNoMoreThanMayBecomeAStopString) {
  struct Step {
    std::string piece;
    std::string text;
  };
  const std::vector<std::string> stops = {"</answer>", "\nUser:"};
  StopMatcher matcher(stops, false);
  for (const auto& [piece, text] : std::vector<Step>{{"a", "a"},
                                                     {"b<", "b"},
                                                     {"/ans", ""},
                                                     {"", ""},
                                                     {"</", "</ans"},
                                                     {"x\n", "</x"},
                                                     {"\nUs", "\n"},
                                                     {"e\n", "\nUse"}}) {
    EXPECT_EQ(matcher.Add(piece).text, text) << piece;
  }
  EXPECT_EQ(matcher.Finish(), "\n");
  EXPECT_EQ(matcher.Finish(), "");
}

TEST(StopMatcherTest, IsDeafInsideReasoning) {
  const std::vector<std::string> stops = {"stop"};
  StopMatcher matcher(stops, false);
  EXPECT_EQ(matcher.Add("think stop sto", /*active=*/false).text, "think stop sto");
  EXPECT_EQ(matcher.Add("p, ", /*active=*/true).text, "p, ");  // no match across the border
  EXPECT_EQ(matcher.Add("st").text, "");
  EXPECT_EQ(matcher.Add("op", /*active=*/false).text, "stop");  // released, not matched
  const StopMatcher::Result result = matcher.Add("op stop");
  EXPECT_EQ(result.text, "op ");
  EXPECT_EQ(result.matched, 0u);
}

TEST(StopMatcherTest, DropsEverythingAfterTheMatch) {
  const std::vector<std::string> stops = {"b"};
  StopMatcher matcher(stops, true);
  EXPECT_EQ(matcher.Add("abc").text, "ab");
  EXPECT_EQ(matcher.Add("def").text, "");
  EXPECT_EQ(matcher.Add("def", /*active=*/false).text, "");
  EXPECT_EQ(matcher.Add("b").matched, std::nullopt);
  EXPECT_EQ(matcher.Finish(), "");
  EXPECT_EQ(matcher.matched(), 0u);
}

TEST(StopMatcherTest, RefusesWhatItCannotMatch) {
  const auto told = [](const std::vector<std::string>& stops) {
    const auto fault = CheckStopStrings(stops);
    return fault ? std::vector<std::string>{fault->field, fault->range, fault->value, fault->remedy}
                 : std::vector<std::string>{};
  };
  EXPECT_THAT(told(std::vector<std::string>(16, "x")), ElementsAre());
  EXPECT_THAT(told(std::vector<std::string>(17, "x")),
              ElementsAre("stop_strings", "at most 16 strings", "17 strings", "leave some out"));
  EXPECT_THAT(told({"a", ""}), ElementsAre("stop_strings[1]", "1 character or more",
                                           "an empty string", "leave it out"));
  EXPECT_THAT(told({std::string(kMaxStopStringBytes, 'x')}), ElementsAre());
  EXPECT_THAT(told({"a", "b", std::string(kMaxStopStringBytes + 1, 'x')}),
              ElementsAre("stop_strings[2]", "at most 1024 bytes", "1025 bytes", "shorten it"));
}

}  // namespace
}  // namespace deltaserve
