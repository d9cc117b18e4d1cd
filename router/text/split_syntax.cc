#include "router/text/split_syntax.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/utf8.h"

namespace deltaserve {
namespace {

using unicode::CharClass;
using SymbolSet = std::bitset<kNumSymbols>;

constexpr char32_t kLongS = 0x17F;        // folds to s
constexpr char32_t kKelvinSign = 0x212A;  // folds to k
constexpr char32_t kEnd = 0xFFFFFFFF;

bool IsAsciiLetter(char32_t c) { return c < 0x80 && absl::ascii_isalpha(static_cast<uint8_t>(c)); }
bool IsAsciiDigit(char32_t c) { return c < 0x80 && absl::ascii_isdigit(static_cast<uint8_t>(c)); }
char32_t Lower(char32_t c) {
  return static_cast<uint8_t>(absl::ascii_tolower(static_cast<uint8_t>(c)));
}

// Where two literals under (?i: follow each other, other engines also match one character that
// folds to both, such as U+FB05 for "st".
bool FoldsFromOneCharacter(char32_t first, char32_t second) {
  static constexpr std::array<std::string_view, 5> kPairs = {"ss", "st", "ff", "fi", "fl"};
  const std::string pair = {static_cast<char>(Lower(first)), static_cast<char>(Lower(second))};
  return std::find(kPairs.begin(), kPairs.end(), pair) != kPairs.end();
}

// One pass over a pattern, from left to right. Used once.
class Rewriter {
 public:
  Rewriter(std::u32string pattern, std::string path)
      : pattern_(std::move(pattern)), path_(std::move(path)) {}

  absl::StatusOr<RewrittenPattern> Run();

 private:
  // Every character outside ASCII that has a symbol of its own must be known before sets are built.
  absl::Status CollectOwnCharacters();

  absl::Status Next();
  absl::Status OpenGroup();
  absl::Status CloseGroup();
  absl::Status Quantifier(char32_t c);
  absl::Status Braces();
  absl::Status Class();
  absl::Status ClassItem(SymbolSet* set);
  absl::Status Literal(char32_t c);

  // The set of \s, \S, \p{X} or \P{X} at at_, which is moved behind it; nullopt for another escape.
  absl::StatusOr<std::optional<SymbolSet>> SetEscape();
  // The character of an escape such as \n or \. at at_, which is moved behind it.
  absl::StatusOr<char32_t> CharacterEscape();
  absl::StatusOr<CharClass> PropertyName();

  SymbolSet SetOfClass(CharClass value) const;
  uint8_t SymbolOf(char32_t c) const;
  void AddLiteral(char32_t c, SymbolSet* set) const;
  void Emit(const SymbolSet& set);
  char32_t Peek(size_t ahead = 0) const {
    return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : kEnd;
  }
  bool StartsWith(std::u32string_view text) const {
    return std::u32string_view(pattern_).substr(at_, text.size()) == text;
  }
  bool IsCaseless() const { return !caseless_.empty() && caseless_.back(); }
  absl::Status Refuse(const std::string& what) const;
  absl::Status Malformed(const std::string& what) const;

  std::u32string pattern_;
  std::string path_;
  size_t at_ = 0;
  RewrittenPattern result_;
  std::vector<bool> caseless_;  // of each open group
  char32_t last_caseless_literal_ = kEnd;
};

absl::StatusOr<RewrittenPattern> Rewriter::Run() {
  if (absl::Status status = CollectOwnCharacters(); !status.ok()) return status;
  while (at_ < pattern_.size()) {
    if (absl::Status status = Next(); !status.ok()) return status;
  }
  if (!caseless_.empty()) return Malformed("a group is not closed");
  return std::move(result_);
}

absl::Status Rewriter::CollectOwnCharacters() {
  std::u32string& own = result_.own_characters;
  own = {kLongS, kKelvinSign};
  for (const char32_t c : pattern_) {
    if (c >= 0x80 && own.find(c) == std::u32string::npos) own.push_back(c);
  }
  if (own.size() > kNumSymbols - kFirstOwnSymbol) {
    return Refuse(absl::StrCat("it names ", own.size() - 2, " characters outside ASCII; at most ",
                               kNumSymbols - kFirstOwnSymbol - 2, " are supported"));
  }
  return absl::OkStatus();
}

absl::Status Rewriter::Next() {
  const char32_t c = Peek();
  const char32_t last_literal = std::exchange(last_caseless_literal_, kEnd);
  switch (c) {
    case U'(':
      return OpenGroup();
    case U')':
      return CloseGroup();
    case U'|':
      ++at_;
      result_.source += '|';
      return absl::OkStatus();
    case U'?':
    case U'*':
    case U'+':
      return Quantifier(c);
    case U'{':
      return Braces();
    case U'[':
      return Class();
    case U'.':
    case U'^':
    case U'$':
      return Refuse("this is not supported");
    default:
      break;
  }
  char32_t literal = c;
  if (c == U'\\') {
    auto set = SetEscape();
    if (!set.ok()) return set.status();
    if (set->has_value()) {
      Emit(**set);
      return absl::OkStatus();
    }
    auto escaped = CharacterEscape();
    if (!escaped.ok()) return escaped.status();
    literal = *escaped;
  } else {
    ++at_;
  }
  last_caseless_literal_ = last_literal;
  return Literal(literal);
}

absl::Status Rewriter::OpenGroup() {
  struct Opening {
    std::u32string_view text;
    std::string_view emitted;
  };
  static constexpr std::array<Opening, 4> kOpenings = {
      {{U"(?:", "(?:"}, {U"(?=", "(?="}, {U"(?!", "(?!"}, {U"(?i:", "(?:"}}};
  if (Peek(1) != U'?') {
    ++at_;
    result_.source += "(?:";  // nothing refers back to what it captures
    caseless_.push_back(IsCaseless());
    return absl::OkStatus();
  }
  for (const Opening& opening : kOpenings) {
    if (!StartsWith(opening.text)) continue;
    at_ += opening.text.size();
    result_.source += opening.emitted;
    caseless_.push_back(IsCaseless() || opening.text == U"(?i:");
    return absl::OkStatus();
  }
  return Refuse("this kind of group is not supported");
}

absl::Status Rewriter::CloseGroup() {
  if (caseless_.empty()) return Malformed("no group is open here");
  ++at_;
  caseless_.pop_back();
  result_.source += ')';
  return absl::OkStatus();
}

absl::Status Rewriter::Quantifier(char32_t c) {
  ++at_;
  result_.source += static_cast<char>(c);
  if (Peek() == U'?' || Peek() == U'+') result_.source += static_cast<char>(pattern_[at_++]);
  if (Peek() == U'?' || Peek() == U'*' || Peek() == U'+' || Peek() == U'{') {
    return Refuse("a repeat of a repeat is not supported");
  }
  return absl::OkStatus();
}

absl::Status Rewriter::Braces() {
  size_t end = at_ + 1;
  size_t num_commas = 0;
  while (end < pattern_.size() && (IsAsciiDigit(pattern_[end]) || pattern_[end] == U',')) {
    num_commas += pattern_[end] == U',' ? 1 : 0;
    ++end;
  }
  const bool is_repeat =
      end < pattern_.size() && pattern_[end] == U'}' && IsAsciiDigit(Peek(1)) && num_commas <= 1;
  if (!is_repeat) return Refuse("only {n}, {n,} and {n,m} are supported; write \\{ for the brace");
  for (; at_ <= end; ++at_) result_.source += static_cast<char>(pattern_[at_]);
  if (Peek() == U'?' || Peek() == U'*' || Peek() == U'+' || Peek() == U'{') {
    return Refuse("a repeat of a repeat is not supported");
  }
  return absl::OkStatus();
}

absl::Status Rewriter::Class() {
  ++at_;
  const bool is_negated = Peek() == U'^';
  if (is_negated) ++at_;
  if (is_negated && IsCaseless()) return Refuse("a complement under (?i: is not supported");
  if (Peek() == U']') return Refuse("an empty class is not supported; write \\] for the bracket");
  SymbolSet set;
  while (Peek() != U']') {
    if (absl::Status status = ClassItem(&set); !status.ok()) return status;
  }
  ++at_;
  Emit(is_negated ? ~set : set);
  return absl::OkStatus();
}

absl::Status Rewriter::ClassItem(SymbolSet* set) {
  const auto one_character = [this]() -> absl::StatusOr<char32_t> {
    if (Peek() == kEnd) return Malformed("a class is not closed");
    if (Peek() == U'\\') return CharacterEscape();
    if (Peek() == U'[') return Refuse("a class in a class is not supported; write \\[");
    if (StartsWith(U"&&")) return Refuse("an intersection of classes is not supported");
    return pattern_[at_++];
  };
  if (Peek() == U'\\') {
    auto escape = SetEscape();
    if (!escape.ok()) return escape.status();
    if (escape->has_value()) {
      if (IsCaseless()) return Refuse("\\p and \\s under (?i: are not supported");
      *set |= **escape;
      return absl::OkStatus();
    }
  }
  auto first = one_character();
  if (!first.ok()) return first.status();
  if (Peek() != U'-' || Peek(1) == U']' || Peek(1) == kEnd) {
    if (IsCaseless() && *first >= 0x80) return Refuse("only ASCII is supported under (?i:");
    AddLiteral(*first, set);
    return absl::OkStatus();
  }
  ++at_;
  auto last = one_character();
  if (!last.ok()) return last.status();
  if (*first >= 0x80 || *last >= 0x80) return Refuse("a range outside ASCII is not supported");
  if (*first > *last) return Malformed("this range is empty");
  for (char32_t c = *first; c <= *last; ++c) AddLiteral(c, set);
  return absl::OkStatus();
}

absl::Status Rewriter::Literal(char32_t c) {
  if (IsCaseless()) {
    if (c >= 0x80) return Refuse("only ASCII is supported under (?i:");
    if (last_caseless_literal_ != kEnd && FoldsFromOneCharacter(last_caseless_literal_, c)) {
      return Refuse("letters that one ligature folds to are not supported under (?i:");
    }
    last_caseless_literal_ = c;
  }
  SymbolSet set;
  AddLiteral(c, &set);
  Emit(set);
  return absl::OkStatus();
}

absl::StatusOr<std::optional<SymbolSet>> Rewriter::SetEscape() {
  const char32_t c = Peek(1);
  SymbolSet set;
  if (c == U's' || c == U'S') {
    at_ += 2;
    set = SetOfClass(CharClass::kSpace);
  } else if (c == U'p' || c == U'P') {
    auto name = PropertyName();
    if (!name.ok()) return name.status();
    set = SetOfClass(*name);
  } else {
    return std::optional<SymbolSet>();
  }
  if (IsCaseless()) return Refuse("\\p and \\s under (?i: are not supported");
  return std::optional<SymbolSet>(c == U'S' || c == U'P' ? ~set : set);
}

absl::StatusOr<CharClass> Rewriter::PropertyName() {
  if (Peek(2) != U'{' || Peek(4) != U'}')
    return Refuse("only \\p{L}, \\p{M} and \\p{N} are supported");
  const char32_t name = Peek(3);
  if (name != U'L' && name != U'M' && name != U'N') {
    return Refuse("only \\p{L}, \\p{M} and \\p{N} are supported");
  }
  at_ += 5;
  return name == U'L' ? CharClass::kLetter : name == U'M' ? CharClass::kMark : CharClass::kNumber;
}

absl::StatusOr<char32_t> Rewriter::CharacterEscape() {
  const char32_t c = Peek(1);
  if (c == kEnd) return Malformed("nothing follows the backslash");
  if (c >= 0x80 || IsAsciiLetter(c) || IsAsciiDigit(c)) {
    if (c != U'r' && c != U'n' && c != U't') return Refuse("this escape is not supported");
    at_ += 2;
    return c == U'r' ? U'\r' : c == U'n' ? U'\n' : U'\t';
  }
  at_ += 2;
  return c;
}

SymbolSet Rewriter::SetOfClass(CharClass value) const {
  SymbolSet set;
  for (char32_t c = 0; c < 0x80; ++c) set[c] = unicode::ClassOf(c) == value;
  set[kFirstClassSymbol + static_cast<size_t>(value)] = true;
  for (size_t i = 0; i < result_.own_characters.size(); ++i) {
    set[kFirstOwnSymbol + i] = unicode::ClassOf(result_.own_characters[i]) == value;
  }
  return set;
}

uint8_t Rewriter::SymbolOf(char32_t c) const {
  if (c < 0x80) return static_cast<uint8_t>(c);
  return static_cast<uint8_t>(kFirstOwnSymbol + result_.own_characters.find(c));
}

void Rewriter::AddLiteral(char32_t c, SymbolSet* set) const {
  set->set(SymbolOf(c));
  if (!IsCaseless() || !IsAsciiLetter(c)) return;
  const char32_t lower = Lower(c);
  set->set(lower);
  set->set(static_cast<size_t>(absl::ascii_toupper(static_cast<uint8_t>(c))));
  if (lower == U's') set->set(SymbolOf(kLongS));
  if (lower == U'k') set->set(SymbolOf(kKelvinSign));
}

void Rewriter::Emit(const SymbolSet& set) {
  const auto hex = [](size_t symbol) {
    std::array<char, 8> text;
    std::snprintf(text.data(), text.size(), "\\x%02zx", symbol);
    return std::string(text.data());
  };
  result_.source += '[';
  for (size_t first = 0; first < kNumSymbols; ++first) {
    if (!set[first]) continue;
    size_t last = first;
    while (last + 1 < kNumSymbols && set[last + 1]) ++last;
    result_.source += last == first ? hex(first) : hex(first) + "-" + hex(last);
    first = last;
  }
  result_.source += ']';
}

absl::Status Rewriter::Refuse(const std::string& what) const {
  return absl::UnimplementedError(
      absl::StrCat(path_, " at character ", at_, " of the pattern: ", what));
}

absl::Status Rewriter::Malformed(const std::string& what) const {
  return absl::InvalidArgumentError(
      absl::StrCat(path_, " at character ", at_, " of the pattern: ", what));
}

}  // namespace

absl::StatusOr<RewrittenPattern> RewriteSplitPattern(const std::string& pattern,
                                                     const std::string& path) {
  return Rewriter(ToCodePoints(pattern), path).Run();
}

}  // namespace deltaserve
