#include "router/text/unicode.h"

#include <gtest/gtest.h>

#include <map>

#include "kernels/base/utf8.h"

namespace deltaserve::unicode {
namespace {

std::string Utf8(std::u32string_view code_points) {
  std::string text;
  for (const char32_t code_point : code_points) AppendUtf8(code_point, &text);
  return text;
}

TEST(UnicodeTest, ClassesHaveTheCountsOfUnicode16) {
  std::map<CharClass, int> counts;
  for (char32_t c = 0; c < 0x110000; ++c) ++counts[ClassOf(c)];
  EXPECT_EQ(counts[CharClass::kLetter], 141028);
  EXPECT_EQ(counts[CharClass::kMark], 2501);
  EXPECT_EQ(counts[CharClass::kNumber], 1911);
  EXPECT_EQ(counts[CharClass::kSpace], 25);
}

TEST(UnicodeTest, SpaceIsWhiteSpaceOnly) {
  for (const char32_t c : {0x9, 0xD, 0x20, 0x85, 0xA0, 0x1680, 0x2000, 0x200A, 0x2028, 0x3000}) {
    EXPECT_TRUE(IsSpace(c)) << static_cast<uint32_t>(c);
  }
  for (const char32_t c : {0x8, 0xE, 0x1C, 0x1F, 0x180E, 0x200B, 0x2060, 0xFEFF}) {
    EXPECT_FALSE(IsSpace(c)) << static_cast<uint32_t>(c);
  }
}

TEST(UnicodeTest, NfcComposesReordersAndExcludes) {
  struct Case {
    std::u32string_view text;
    std::u32string_view nfc;
  };
  const std::vector<Case> cases = {
      {U"", U""},
      {U"plain", U"plain"},
      {U"e\u0301", U"\u00E9"},
      {U"a\u0323\u0302", U"\u1EAD"},
      {U"a\u0302\u0323", U"\u1EAD"},         // reordered, then composed twice
      {U"q\u0307\u0323", U"q\u0323\u0307"},  // reordered, nothing to compose
      {U"a\u0315\u0300\u05AE\u0300b", U"\u00E0\u05AE\u0300\u0315b"},
      {U"a\u0305\u0300", U"a\u0305\u0300"},  // blocked by a mark of the same class
      {U"\u0344", U"\u0308\u0301"},          // decomposes for good
      {U"\u0958", U"\u0915\u093C"},          // composition exclusion
      {U"\u212B\u2126", U"\u00C5\u03A9"},    // singletons
      {U"\uF900", U"\u8C48"},                // compatibility ideograph, canonical
      {U"\uFB01", U"\uFB01"},                // compatibility only: stays
      {U"\u1100\u1161\u11A8", U"\uAC01"},    // Hangul
      {U"\uAC00\u11A8", U"\uAC01"},
      {U"\uAC00\u11A7", U"\uAC00\u11A7"},              // not a tail
      {U"\u1100\u0301\u1161", U"\u1100\u0301\u1161"},  // blocked
      {U"\u0CC6\u0CC2\u0CD5", U"\u0CCB"},              // a composite that composes on
      {U"\U0001D15E", U"\U0001D157\U0001D165"},
  };
  for (const Case& c : cases) EXPECT_EQ(Nfc(Utf8(c.text)), Utf8(c.nfc)) << Utf8(c.text);
}

// Characters of Unicode 10 to 16: `tokenizers` neither moves nor joins them.
TEST(UnicodeTest, NfcLeavesYoungerCharactersAsTokenizersDoes) {
  for (const std::u32string_view text :
       {U"a\u0897\u0316", U"\U000105D2\u0307", U"a\U00010D69\u0323"}) {
    EXPECT_EQ(Nfc(Utf8(text)), Utf8(text));
  }
}

TEST(UnicodeTest, NfcOfNfcIsItself) {
  for (char32_t c = 1; c < 0x30000; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    const std::string once = Nfc(Utf8(std::u32string{c, 0x301, 0x323, 0x1161}));
    ASSERT_EQ(Nfc(once), once) << static_cast<uint32_t>(c);
  }
}

}  // namespace
}  // namespace deltaserve::unicode
