#include "router/text/template/text.h"

#include <algorithm>
#include <cstdint>

#include "kernels/base/utf8.h"
#include "router/text/template/unicode_tables.h"

namespace deltaserve::jinja {
namespace {

// The bits of kPropertyRanges and of kCaseRanges.
enum Property : uint8_t {
  kSpaceBit = 1,
  kUnprintableBit = 2,
  kAlphaBit = 4,
  kDecimalBit = 8,
  kDigitBit = 16,
  kNumericBit = 32,
  kIdentifierBit = 64,
};
enum Case : uint8_t {
  kUpperBit = 1,
  kLowerBit = 2,
  kTitleBit = 4,
  kCasedBit = 8,
  kIgnoredBit = 16,
};
enum class CaseKind : uint8_t { kUpper, kLower, kTitle };

constexpr char32_t kSigma = 0x3A3;
constexpr char32_t kSmallSigma = 0x3C3;
constexpr char32_t kFinalSigma = 0x3C2;

// Ranges are sorted by `first`, and at most two of them may hold a code point.
template <typename Range>
const Range* FindRange(std::span<const Range> ranges, char32_t c) {
  auto after = std::upper_bound(ranges.begin(), ranges.end(), c,
                                [](char32_t v, const Range& r) { return v < r.first; });
  for (int i = 0; i < 2 && after != ranges.begin(); ++i) {
    --after;
    if (c <= after->last && (c - after->first) % after->stride == 0) return &*after;
  }
  return nullptr;
}

bool Has(std::span<const PropertyRange> ranges, char32_t c, uint8_t bit) {
  const PropertyRange* range = FindRange(ranges, c);
  return range != nullptr && (range->value & bit) != 0;
}

void AppendCase(char32_t c, CaseKind kind, std::u32string* out) {
  const auto expansion = std::find_if(
      std::lower_bound(kExpansions.begin(), kExpansions.end(), c,
                       [](const Expansion& e, char32_t v) { return e.code_point < v; }),
      kExpansions.end(), [&](const Expansion& e) {
        return e.code_point != c || e.kind == static_cast<uint8_t>(kind);
      });
  if (expansion != kExpansions.end() && expansion->code_point == c) {
    for (const char32_t to : expansion->to) {
      if (to != 0) out->push_back(to);
    }
    return;
  }
  const MappingRange* range = FindRange(kMappingRanges, c);
  int32_t move = 0;
  if (range != nullptr) {
    move = kind == CaseKind::kUpper   ? range->upper
           : kind == CaseKind::kLower ? range->lower
                                      : range->title;
  }
  out->push_back(static_cast<char32_t>(static_cast<int32_t>(c) + move));
}

// The small sigma at the end of a word has a form of its own (Unicode 14.0, section 3.13).
bool IsFinalSigma(std::u32string_view text, size_t at) {
  size_t before = at;
  while (before > 0 && Has(kCaseRanges, text[before - 1], kIgnoredBit)) --before;
  if (before == 0 || !Has(kCaseRanges, text[before - 1], kCasedBit)) return false;
  size_t after = at + 1;
  while (after < text.size() && Has(kCaseRanges, text[after], kIgnoredBit)) ++after;
  return after == text.size() || !Has(kCaseRanges, text[after], kCasedBit);
}

void AppendLower(std::u32string_view text, size_t at, std::u32string* out) {
  if (text[at] == kSigma) {
    out->push_back(IsFinalSigma(text, at) ? kFinalSigma : kSmallSigma);
  } else {
    AppendCase(text[at], CaseKind::kLower, out);
  }
}

}  // namespace

size_t CountCodePoints(std::string_view utf8) {
  size_t count = 0;
  for (const char byte : utf8) count += (static_cast<uint8_t>(byte) & 0xC0u) != 0x80 ? 1u : 0u;
  return count;
}

size_t CharacterAtOrBefore(std::string_view utf8, size_t at) {
  if (at >= utf8.size()) return utf8.size();
  while (at > 0 && (static_cast<uint8_t>(utf8[at]) & 0xC0u) == 0x80) --at;
  return at;
}

std::string ToUtf8(std::u32string_view code_points) {
  std::string result;
  result.reserve(code_points.size());
  for (const char32_t c : code_points) AppendUtf8(c, &result);
  return result;
}

bool IsSpace(char32_t c) { return Has(kPropertyRanges, c, kSpaceBit); }
bool IsPrintable(char32_t c) { return !Has(kPropertyRanges, c, kUnprintableBit); }
bool IsAlpha(char32_t c) { return Has(kPropertyRanges, c, kAlphaBit); }
bool IsDecimal(char32_t c) { return Has(kPropertyRanges, c, kDecimalBit); }
bool IsDigit(char32_t c) { return Has(kPropertyRanges, c, kDigitBit); }
bool IsNumeric(char32_t c) { return Has(kPropertyRanges, c, kNumericBit); }
bool IsIdentifierPart(char32_t c) { return Has(kPropertyRanges, c, kIdentifierBit); }
bool IsUpper(char32_t c) { return Has(kCaseRanges, c, kUpperBit); }
bool IsLower(char32_t c) { return Has(kCaseRanges, c, kLowerBit); }
bool IsTitle(char32_t c) { return Has(kCaseRanges, c, kTitleBit); }
bool IsCased(char32_t c) { return Has(kCaseRanges, c, kUpperBit | kLowerBit | kTitleBit); }

std::u32string Upper(std::u32string_view text) {
  std::u32string result;
  for (const char32_t c : text) AppendCase(c, CaseKind::kUpper, &result);
  return result;
}

std::u32string Lower(std::u32string_view text) {
  std::u32string result;
  for (size_t i = 0; i < text.size(); ++i) AppendLower(text, i, &result);
  return result;
}

std::u32string Title(std::u32string_view text) {
  std::u32string result;
  bool is_inside = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (is_inside) {
      AppendLower(text, i, &result);
    } else {
      AppendCase(text[i], CaseKind::kTitle, &result);
    }
    is_inside = Has(kCaseRanges, text[i], kCasedBit) || IsCased(text[i]);
  }
  return result;
}

std::u32string Capitalize(std::u32string_view text) {
  std::u32string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (i == 0) {
      AppendCase(text[i], CaseKind::kTitle, &result);
    } else {
      AppendLower(text, i, &result);
    }
  }
  return result;
}

std::u32string SwapCase(std::u32string_view text) {
  std::u32string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (IsUpper(text[i])) {
      AppendLower(text, i, &result);
    } else if (IsLower(text[i])) {
      AppendCase(text[i], CaseKind::kUpper, &result);
    } else {
      result.push_back(text[i]);
    }
  }
  return result;
}

bool IsLineBreak(char32_t c) {
  return (c >= 0xA && c <= 0xD) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

std::string EscapeHtml(std::string_view utf8) {
  std::string result;
  result.reserve(utf8.size());
  for (const char c : utf8) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '\'':
        result += "&#39;";
        break;
      case '"':
        result += "&#34;";
        break;
      default:
        result.push_back(c);
    }
  }
  return result;
}

}  // namespace deltaserve::jinja
