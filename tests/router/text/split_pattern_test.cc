#include "router/text/split_pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace deltaserve {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string_view> Split(const std::string& pattern, std::string_view text) {
  const auto split = SplitPattern::Create(pattern, "field");
  EXPECT_TRUE(split.ok()) << split.status();
  const auto pieces = (*split)->Split(text);
  EXPECT_TRUE(pieces.ok()) << pieces.status();
  return *pieces;
}

TEST(SplitPatternTest, WhatIsBetweenMatchesIsAPiece) {
  EXPECT_THAT(Split("b+", "abbacb"), ElementsAre("a", "bb", "ac", "b"));
  EXPECT_THAT(Split("x", "abc"), ElementsAre("abc"));
  EXPECT_THAT(Split("x", ""), ElementsAre());
}

TEST(SplitPatternTest, PiecesAreCutBetweenCharactersNotBytes) {
  EXPECT_THAT(Split("\\p{L}", "é我😁"), ElementsAre("é", "我", "😁"));
}

// A caseless s matches the long s too, but no ligature; nothing outside the group is caseless.
TEST(SplitPatternTest, CaselessLettersFoldAsInTokenizers) {
  EXPECT_THAT(Split("(?i:'s)", "'s'S'\u017F"), ElementsAre("'s", "'S", "'\u017F"));
  EXPECT_THAT(Split("(?i:'s)", "'\uFB05"), ElementsAre("'\uFB05"));
  EXPECT_THAT(Split("(?i:[k])k", "x\u212Akx"), ElementsAre("x", "\u212Ak", "x"));
  EXPECT_THAT(Split("(?i:a)a", "AaaAAA"), ElementsAre("Aa", "aAAA"));
}

TEST(SplitPatternTest, RefusesWhatIsNotSupportedWithItsOffset) {
  struct Case {
    const char* pattern;
    absl::StatusCode code;
    const char* message;
  };
  constexpr auto kNo = absl::StatusCode::kUnimplemented;
  constexpr auto kBad = absl::StatusCode::kInvalidArgument;
  const std::vector<Case> cases = {
      {"a.b", kNo, "field at character 1 of the pattern"},
      {"^a", kNo, "at character 0"},
      {"a$", kNo, "at character 1"},
      {"\\d", kNo, "this escape"},
      {"\\w+", kNo, "this escape"},
      {"\\bx", kNo, "this escape"},
      {"\\1", kNo, "this escape"},
      {"\\p{Lu}", kNo, "only \\p{L}"},
      {"\\pL", kNo, "only \\p{L}"},
      {"(?<=a)b", kNo, "this kind of group"},
      {"(?i)a", kNo, "this kind of group"},
      {"(?>a)", kNo, "this kind of group"},
      {"(?i:st)", kNo, "ligature"},
      {"(?i:fF)", kNo, "ligature"},
      {"(?i:é)", kNo, "only ASCII"},
      {"(?i:[^a])", kNo, "a complement"},
      {"(?i:\\p{L})", kNo, "under (?i:"},
      {"[а-я]", kNo, "a range outside ASCII"},
      {"[[:alpha:]]", kNo, "a class in a class"},
      {"[a&&b]", kNo, "an intersection"},
      {"[]a]", kNo, "an empty class"},
      {"a{,3}", kNo, "only {n}"},
      {"a{2}?", kNo, "a repeat of a repeat"},
      {"a+*", kNo, "a repeat of a repeat"},
      {"a*", kNo, "may match an empty string"},
      {"a|", kNo, "may match an empty string"},
      {"[b-a]", kBad, "this range is empty"},
      {"[ab", kBad, "a class is not closed"},
      {"(a", kBad, "a group is not closed"},
      {"a)", kBad, "no group is open"},
      {"a\\", kBad, "nothing follows the backslash"},
      {"+a", kBad, "is not a pattern"},
      {"a{3,2}", kBad, "is not a pattern"},
  };
  for (const Case& c : cases) {
    const auto split = SplitPattern::Create(c.pattern, "field");
    EXPECT_EQ(split.status().code(), c.code) << c.pattern << " " << split.status();
    EXPECT_THAT(std::string(split.status().message()), HasSubstr(c.message)) << c.pattern;
  }
}

// A pattern from a file must not be able to hang a router.
TEST(SplitPatternTest, AnExponentialPatternGivesUp) {
  const auto split = SplitPattern::Create("(a+)+b", "field");
  ASSERT_TRUE(split.ok()) << split.status();
  const std::string text = std::string(64, 'a') + "cb";
  const auto pieces = (*split)->Split(text);
  EXPECT_EQ(pieces.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(pieces.status().message()),
              HasSubstr("gave up at character 0 of a text of 66"));
}

}  // namespace
}  // namespace deltaserve
