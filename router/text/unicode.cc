#include "router/text/unicode.h"

#include <algorithm>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/base/utf8.h"
#include "router/text/unicode_tables.h"

namespace deltaserve::unicode {
namespace {

// Hangul syllables are composed by arithmetic (Unicode 16.0, section 3.12).
constexpr char32_t kSyllable = 0xAC00;
constexpr char32_t kLead = 0x1100;
constexpr char32_t kVowel = 0x1161;
constexpr char32_t kTail = 0x11A7;  // one before the first
constexpr char32_t kNumLeads = 19;
constexpr char32_t kNumVowels = 21;
constexpr char32_t kNumTails = 28;  // with "none"
constexpr char32_t kNumSyllables = kNumLeads * kNumVowels * kNumTails;

// Every code point below has its own NFC, in any context.
constexpr char32_t kFirstNotInert = 0x300;

template <typename Range>
const Range* FindRange(std::span<const Range> ranges, char32_t code_point) {
  const auto after =
      std::upper_bound(ranges.begin(), ranges.end(), code_point,
                       [](char32_t value, const Range& range) { return value < range.first; });
  if (after == ranges.begin()) return nullptr;
  const Range& range = *(after - 1);
  return code_point <= range.last ? &range : nullptr;
}

uint8_t CombiningClass(char32_t code_point) {
  if (code_point < kFirstNotInert) return 0;
  const CombiningRange* range = FindRange(kCombiningRanges, code_point);
  return range == nullptr ? uint8_t{0} : range->value;
}

// A code point with its combining class, so that it is looked up once.
struct Mark {
  char32_t code_point;
  uint8_t combining;
};

void AppendDecomposed(char32_t code_point, std::vector<Mark>* out) {
  if (const char32_t index = code_point - kSyllable; index < kNumSyllables) {
    out->push_back({kLead + index / (kNumVowels * kNumTails), 0});
    out->push_back({kVowel + index / kNumTails % kNumVowels, 0});
    if (index % kNumTails != 0) out->push_back({kTail + index % kNumTails, 0});
    return;
  }
  const auto found = std::lower_bound(
      kDecompositions.begin(), kDecompositions.end(), code_point,
      [](const Decomposition& entry, char32_t value) { return entry.code_point < value; });
  if (found == kDecompositions.end() || found->code_point != code_point) {
    out->push_back({code_point, CombiningClass(code_point)});
    return;
  }
  AppendDecomposed(found->first, out);
  if (found->second != 0) AppendDecomposed(found->second, out);
}

// Canonical ordering: every run of code points with a combining class is sorted by it, stably.
void Reorder(std::vector<Mark>* text) {
  const auto is_mark = [](const Mark& mark) { return mark.combining != 0; };
  for (auto at = text->begin(); at != text->end();) {
    const auto first = std::find_if(at, text->end(), is_mark);
    const auto last = std::find_if_not(first, text->end(), is_mark);
    std::stable_sort(first, last,
                     [](const Mark& a, const Mark& b) { return a.combining < b.combining; });
    at = last;
  }
}

// The primary composite of the pair, or 0.
char32_t Compose(char32_t first, char32_t second) {
  if (first - kLead < kNumLeads && second - kVowel < kNumVowels) {
    return kSyllable + ((first - kLead) * kNumVowels + (second - kVowel)) * kNumTails;
  }
  if (first - kSyllable < kNumSyllables && (first - kSyllable) % kNumTails == 0 && second > kTail &&
      second < kTail + kNumTails) {
    return first + (second - kTail);
  }
  const auto found = std::lower_bound(
      kCompositions.begin(), kCompositions.end(), std::pair(first, second),
      [](const Composition& entry, const std::pair<char32_t, char32_t>& value) {
        return std::tie(entry.first, entry.second) < std::tie(value.first, value.second);
      });
  const bool is_pair =
      found != kCompositions.end() && found->first == first && found->second == second;
  return is_pair ? found->composed : 0;
}

// Canonical composition: each code point joins the last starter unless something between blocks it.
void ComposeAll(std::vector<Mark>* text) {
  constexpr size_t kNone = static_cast<size_t>(-1);
  size_t starter = kNone;
  size_t size = 0;
  for (const Mark mark : *text) {
    if (starter != kNone) {
      const Mark& last = (*text)[size - 1];
      const bool is_blocked = size - 1 != starter && last.combining >= mark.combining;
      const char32_t composed =
          is_blocked ? 0 : Compose((*text)[starter].code_point, mark.code_point);
      if (composed != 0) {
        (*text)[starter].code_point = composed;
        continue;
      }
    }
    if (mark.combining == 0) starter = size;
    (*text)[size++] = mark;
  }
  text->resize(size);
}

bool IsInert(std::u32string_view text) {
  return std::all_of(text.begin(), text.end(), [](char32_t code_point) {
    return code_point < kFirstNotInert || FindRange(kNotInertRanges, code_point) == nullptr;
  });
}

}  // namespace

CharClass ClassOf(char32_t code_point) {
  const ClassRange* range = FindRange(kClassRanges, code_point);
  return range == nullptr ? CharClass::kOther : range->value;
}

std::string Nfc(std::string_view text) {
  const std::u32string code_points = ToCodePoints(text);
  if (IsInert(code_points)) return std::string(text);
  std::vector<Mark> marks;
  marks.reserve(code_points.size() * 2);
  for (const char32_t code_point : code_points) AppendDecomposed(code_point, &marks);
  Reorder(&marks);
  ComposeAll(&marks);
  std::string result;
  result.reserve(text.size());
  for (const Mark& mark : marks) AppendUtf8(mark.code_point, &result);
  return result;
}

}  // namespace deltaserve::unicode
