#include "kernels/base/utf8.h"

#include <gtest/gtest.h>

#include <vector>

namespace deltaserve {
namespace {

using Kind = Utf8Step::Kind;

TEST(Utf8Test, EveryScalarValueSurvivesARoundTrip) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    AppendUtf8(c, &text);
    const Utf8Step step = NextUtf8(text + "x");
    ASSERT_EQ(step.kind, Kind::kCharacter) << static_cast<uint32_t>(c);
    ASSERT_EQ(step.length, text.size());
    ASSERT_EQ(step.code_point, c);
  }
}

TEST(Utf8Test, BrokenPrefixesAreMaximal) {
  struct Case {
    std::string bytes;
    Kind kind;
    size_t length;
  };
  const std::vector<Case> cases = {
      {"\x80", Kind::kBroken, 1},          {"\xC0\x80", Kind::kBroken, 1},
      {"\xC1\xBF", Kind::kBroken, 1},      {"\xC3", Kind::kIncomplete, 1},
      {"\xC3(", Kind::kBroken, 1},         {"\xE0\x80\x80", Kind::kBroken, 1},
      {"\xE0\xA0", Kind::kIncomplete, 2},  {"\xE0\xA0x", Kind::kBroken, 2},
      {"\xED\xA0\x80", Kind::kBroken, 1},  {"\xED\x9F\xBF", Kind::kCharacter, 3},
      {"\xF0\x80\x80", Kind::kBroken, 1},  {"\xF0\x9F\x98", Kind::kIncomplete, 3},
      {"\xF0\x9F\x98x", Kind::kBroken, 3}, {"\xF0\x9F\xF0", Kind::kBroken, 2},
      {"\xF4\x90\x80", Kind::kBroken, 1},  {"\xF4\x8F\xBF\xBF", Kind::kCharacter, 4},
      {"\xF5", Kind::kBroken, 1},          {"\xFF", Kind::kBroken, 1},
  };
  for (const Case& c : cases) {
    const Utf8Step step = NextUtf8(c.bytes);
    EXPECT_EQ(step.kind, c.kind) << testing::PrintToString(c.bytes);
    EXPECT_EQ(step.length, c.length) << testing::PrintToString(c.bytes);
  }
}

TEST(Utf8Test, FindInvalidGivesTheFirstBadByte) {
  EXPECT_EQ(FindInvalidUtf8(""), std::nullopt);
  EXPECT_EQ(FindInvalidUtf8("a\xC3\xA9\xF0\x9F\x98\x81"), std::nullopt);
  EXPECT_EQ(FindInvalidUtf8("a\xC3\xA9\xF0\x9F\x98"), 3u);
  EXPECT_EQ(FindInvalidUtf8("ab\xFFz"), 2u);
}

}  // namespace
}  // namespace deltaserve
