// The methods of str (methods.h). Where `self` is a safe string, so are the results, and what goes
// into it is escaped, as markupsafe does.

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "kernels/base/status_macros.h"
#include "kernels/base/utf8.h"
#include "router/text/template/arguments.h"
#include "router/text/template/cat.h"
#include "router/text/template/iterate.h"
#include "router/text/template/lookups.h"
#include "router/text/template/methods.h"
#include "router/text/template/operators.h"
#include "router/text/template/repr.h"
#include "router/text/template/string_format.h"
#include "router/text/template/string_parts.h"
#include "router/text/template/string_split.h"
#include "router/text/template/text.h"

namespace deltaserve::jinja {
namespace {

using Bound = std::vector<Value>;

template <CaseMapping kMapping>
absl::StatusOr<Value> Mapped(Runtime& runtime, const Value& self, const Arguments& arguments) {
  DS_RETURN_IF_ERROR(Bind("str method", arguments, {}, 0).status());
  DS_ASSIGN_OR_RETURN(std::string text, MapCase(runtime, self.text(), kMapping));
  return runtime.String(std::move(text), self.IsSafe());
}

template <Side kSide>
absl::StatusOr<Value> Stripped(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const std::string_view name = self.IsSafe() ? "chars" : "";
  DS_ASSIGN_OR_RETURN(const Bound bound, Bind("strip", arguments, {name}, 0));
  DS_ASSIGN_OR_RETURN(const std::string_view text, Strip(runtime, self.text(), bound[0], kSide));
  return runtime.String(std::string(text), self.IsSafe());
}

// Whether all characters are of a kind, and there is one.
template <bool (*kIs)(char32_t)>
absl::StatusOr<Value> AllAre(Runtime& runtime, const Value& self, const Arguments& arguments) {
  DS_RETURN_IF_ERROR(Bind("str method", arguments, {}, 0).status());
  std::u32string points;
  DS_ASSIGN_OR_RETURN(points, CodePoints(runtime, self.text()));
  return Value::Bool(!points.empty() && std::all_of(points.begin(), points.end(), kIs));
}

// Whether there is a cased character and none of the other cases.
template <bool (*kIs)(char32_t), bool (*kIsOther)(char32_t)>
absl::StatusOr<Value> IsInCase(Runtime& runtime, const Value& self, const Arguments& arguments) {
  DS_RETURN_IF_ERROR(Bind("str method", arguments, {}, 0).status());
  std::u32string points;
  DS_ASSIGN_OR_RETURN(points, CodePoints(runtime, self.text()));
  const bool has_other = std::any_of(points.begin(), points.end(),
                                     [](char32_t c) { return kIsOther(c) || IsTitle(c); });
  return Value::Bool(!has_other && std::any_of(points.begin(), points.end(), kIs));
}

absl::StatusOr<Value> IsTitleCase(Runtime& runtime, const Value& self, const Arguments& arguments) {
  DS_RETURN_IF_ERROR(Bind("istitle", arguments, {}, 0).status());
  std::u32string points;
  DS_ASSIGN_OR_RETURN(points, CodePoints(runtime, self.text()));
  bool has_cased = false;
  bool is_inside = false;
  for (const char32_t c : points) {
    if (IsUpper(c) || IsTitle(c)) {
      if (is_inside) return Value::Bool(false);
      is_inside = has_cased = true;
    } else if (IsLower(c)) {
      if (!is_inside) return Value::Bool(false);
      has_cased = true;
    } else {
      is_inside = false;
    }
  }
  return Value::Bool(has_cased);
}

absl::StatusOr<Value> IsAscii(Runtime&, const Value& self, const Arguments& arguments) {
  DS_RETURN_IF_ERROR(Bind("isascii", arguments, {}, 0).status());
  return Value::Bool(self.string().IsAscii());
}

absl::StatusOr<Value> IsAllPrintable(Runtime& runtime,
                                     const Value& self,
                                     const Arguments& arguments) {
  if (self.text().empty()) return Value::Bool(true);
  return AllAre<IsPrintable>(runtime, self, arguments);
}

absl::StatusOr<Value> IsIdentifier(Runtime& runtime,
                                   const Value& self,
                                   const Arguments& arguments) {
  const std::string_view text = self.text();
  const std::u32string points = ToCodePoints(text.substr(0, CharacterAtOrBefore(text, 4)));
  if (!points.empty() && (IsDecimal(points[0]) || !(IsAlpha(points[0]) || points[0] == '_'))) {
    return Value::Bool(false);
  }
  return AllAre<IsIdentifierPart>(runtime, self, arguments);
}

// The bytes from start to stop, arguments that count code points. False where start is past the
// end.
absl::StatusOr<bool> Window(Runtime& runtime,
                            const Value& self,
                            const Value& start,
                            const Value& stop,
                            size_t* first,
                            size_t* last) {
  const StringObject& string = self.string();
  if (!string.IsAscii()) DS_RETURN_IF_ERROR(runtime.Work(string.text.size()));
  const auto size = static_cast<Int>(string.length);
  DS_ASSIGN_OR_RETURN(Int begin, IntArgument("str method", start, 0, true));
  DS_ASSIGN_OR_RETURN(Int end, IntArgument("str method", stop, size, true));
  if (begin < 0) begin = std::max<Int>(begin + size, 0);
  end = std::clamp<Int>(end < 0 ? end + size : end, 0, size);
  if (begin > size || begin > end) return false;
  const auto offset = [&](Int place) {
    if (string.IsAscii()) return static_cast<size_t>(place);
    size_t at = 0;
    for (; place > 0; --place) {
      ++at;
      while (at < string.text.size() && (static_cast<uint8_t>(string.text[at]) & 0xC0u) == 0x80) {
        ++at;
      }
    }
    return at;
  };
  *first = offset(begin);
  *last = offset(end);
  return true;
}

enum class Search : uint8_t { kFind, kIndex, kLastFind, kLastIndex };

template <Search kSearch>
absl::StatusOr<Value> Found(Runtime& runtime, const Value& self, const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound, Bind("find", arguments, {"", "", ""}, 1));
  DS_RETURN_IF_ERROR(ExpectString("find", bound[0]));
  const std::string& needle = bound[0].text();
  size_t first = 0;
  size_t last = 0;
  DS_ASSIGN_OR_RETURN(const bool is_inside,
                      Window(runtime, self, bound[1], bound[2], &first, &last));
  DS_RETURN_IF_ERROR(runtime.Work(self.text().size()));
  size_t at = std::string::npos;
  if (is_inside) {
    const std::string_view text = std::string_view(self.text()).substr(0, last);
    if (kSearch == Search::kFind || kSearch == Search::kIndex) {
      at = FindText(text, needle, first);
    } else {
      DS_RETURN_IF_ERROR(WorkOfLastFind(runtime, text, needle));
      at = text.rfind(needle);
      if (at != std::string::npos && at < first) at = std::string::npos;
    }
  }
  if (at != std::string::npos) return Value::Integer(PlaceOf(self.string(), at));
  if (kSearch == Search::kFind || kSearch == Search::kLastFind) return Value::Integer(-1);
  return Wrong("substring not found");
}

absl::StatusOr<Value> Count(Runtime& runtime, const Value& self, const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound, Bind("count", arguments, {"", "", ""}, 1));
  DS_RETURN_IF_ERROR(ExpectString("count", bound[0]));
  const std::string& needle = bound[0].text();
  size_t first = 0;
  size_t last = 0;
  DS_ASSIGN_OR_RETURN(const bool is_inside,
                      Window(runtime, self, bound[1], bound[2], &first, &last));
  if (!is_inside) return Value::Integer(0);
  DS_RETURN_IF_ERROR(runtime.Work(self.text().size()));
  const std::string_view text = std::string_view(self.text()).substr(0, last);
  if (needle.empty()) {
    return Value::Integer(static_cast<Int>(CountCodePoints(text.substr(first))) + 1);
  }
  Int count = 0;
  for (size_t at = FindText(text, needle, first); at != std::string::npos;
       at = FindText(text, needle, at + needle.size())) {
    ++count;
  }
  return Value::Integer(count);
}

template <bool kAtEnd>
absl::StatusOr<Value> HasAffix(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const std::string_view name = kAtEnd ? "endswith" : "startswith";
  DS_ASSIGN_OR_RETURN(const Bound bound, Bind(name, arguments, {"", "", ""}, 1));
  size_t first = 0;
  size_t last = 0;
  DS_ASSIGN_OR_RETURN(const bool is_inside,
                      Window(runtime, self, bound[1], bound[2], &first, &last));
  std::vector<Value> affixes = {bound[0]};
  if (bound[0].Is(Type::kTuple)) affixes = bound[0].items();
  bool has_any = false;
  for (const Value& affix : affixes) {
    if (!affix.IsString()) {
      return Wrong(name, " first arg must be str or a tuple of str, not ", TypeName(affix));
    }
    DS_RETURN_IF_ERROR(runtime.Work(affix.text().size()));
    if (!is_inside || has_any) continue;
    const std::string_view text = std::string_view(self.text()).substr(first, last - first);
    if (text.size() < affix.text().size()) continue;
    has_any = kAtEnd ? text.substr(text.size() - affix.text().size()) == affix.text()
                     : text.substr(0, affix.text().size()) == affix.text();
    if (has_any) break;
  }
  return Value::Bool(has_any);
}

template <bool kAtEnd>
absl::StatusOr<Value> WithoutAffix(Runtime& runtime,
                                   const Value& self,
                                   const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound, Bind("removeprefix", arguments, {""}, 1));
  DS_RETURN_IF_ERROR(ExpectString("removeprefix", bound[0]));
  std::string_view text = self.text();
  const std::string& affix = bound[0].text();
  DS_RETURN_IF_ERROR(runtime.Work(affix.size()));
  if (text.size() >= affix.size() && !affix.empty()) {
    const size_t at = kAtEnd ? text.size() - affix.size() : 0;
    if (text.substr(at, affix.size()) == affix) {
      text = kAtEnd ? text.substr(0, at) : text.substr(affix.size());
    }
  }
  return runtime.String(std::string(text), self.IsSafe());
}

absl::StatusOr<Value> Replaced(Runtime& runtime, const Value& self, const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound, Bind("replace", arguments, {"", "", ""}, 2));
  DS_RETURN_IF_ERROR(ExpectString("replace", bound[0]));
  std::string to;
  if (self.IsSafe() && !bound[1].IsSafe()) {
    DS_ASSIGN_OR_RETURN(to, Text(runtime, bound[1]));
    DS_RETURN_IF_ERROR(runtime.CheckRoom(to.size() * kMostEscaped));
    to = EscapeHtml(to);
  } else {
    DS_RETURN_IF_ERROR(ExpectString("replace", bound[1]));
    to = bound[1].text();
  }
  DS_ASSIGN_OR_RETURN(const Int count, IntArgument("replace", bound[2], -1));
  DS_ASSIGN_OR_RETURN(std::string text, Replace(runtime, self.text(), bound[0].text(), to, count));
  return runtime.String(std::move(text), self.IsSafe());
}

absl::StatusOr<Value> Joined(Runtime& runtime, const Value& self, const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound, Bind("join", arguments, {""}, 1));
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<Iterator> iterator, MakeIterator(runtime, bound[0]));
  Buffer buffer(&runtime);
  Value item;
  for (size_t i = 0;; ++i) {
    DS_ASSIGN_OR_RETURN(const bool has_next, iterator->Next(runtime, &item));
    if (!has_next) break;
    if (i > 0) DS_RETURN_IF_ERROR(buffer.Append(self.text()));
    if (self.IsSafe() && !item.IsSafe()) {
      DS_ASSIGN_OR_RETURN(const std::string text, Text(runtime, item));
      DS_RETURN_IF_ERROR(runtime.CheckRoom(text.size() * kMostEscaped));
      DS_RETURN_IF_ERROR(buffer.Append(EscapeHtml(text)));
    } else if (item.IsString()) {
      DS_RETURN_IF_ERROR(buffer.Append(item.text()));
    } else {
      return Wrong("sequence item ", i, ": expected str instance, ", TypeName(item), " found");
    }
  }
  return runtime.String(buffer.Take(), self.IsSafe());
}

enum class Align : uint8_t { kLeft, kRight, kCenter };

template <Align kAlign>
absl::StatusOr<Value> Aligned(Runtime& runtime, const Value& self, const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound, Bind("center", arguments, {"", ""}, 1));
  DS_ASSIGN_OR_RETURN(const Int width, IntArgument("center", bound[0], 0));
  std::string fill = " ";
  if (!bound[1].IsMissing()) {
    DS_RETURN_IF_ERROR(ExpectString("center", bound[1]));
    if (bound[1].string().length != 1)
      return Wrong("The fill character must be exactly one character long");
    fill = self.IsSafe() && !bound[1].IsSafe() ? EscapeHtml(bound[1].text()) : bound[1].text();
    if (CountCodePoints(fill) != 1) {
      return Wrong("The fill character must be exactly one character long");
    }
  }
  const auto length = static_cast<Int>(self.string().length);
  std::string text;
  if (kAlign == Align::kCenter) {
    DS_ASSIGN_OR_RETURN(text, Center(runtime, self.text(), length, width, fill));
  } else {
    DS_ASSIGN_OR_RETURN(const std::string filling, Filling(runtime, fill, width - length));
    text = kAlign == Align::kLeft ? self.text() + filling : filling + self.text();
  }
  return runtime.String(std::move(text), self.IsSafe());
}

absl::StatusOr<Value> ZeroFilled(Runtime& runtime, const Value& self, const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound, Bind("zfill", arguments, {""}, 1));
  DS_ASSIGN_OR_RETURN(const Int width, IntArgument("zfill", bound[0], 0));
  DS_ASSIGN_OR_RETURN(const std::string zeros,
                      Filling(runtime, "0", width - static_cast<Int>(self.string().length)));
  const std::string& text = self.text();
  const bool has_sign = !text.empty() && (text[0] == '+' || text[0] == '-');
  const size_t sign = has_sign ? 1 : 0;
  return runtime.String(Cat(text.substr(0, sign), zeros, text.substr(sign)), self.IsSafe());
}

absl::StatusOr<Value> TabsExpanded(Runtime& runtime,
                                   const Value& self,
                                   const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound, Bind("expandtabs", arguments, {"tabsize"}, 0));
  DS_ASSIGN_OR_RETURN(const Int size, IntArgument("expandtabs", bound[0], 8));
  Buffer buffer(&runtime);
  Int column = 0;
  for (const char c : self.text()) {
    if (c == '\t') {
      const Int spaces = size > 0 ? size - column % size : 0;
      DS_ASSIGN_OR_RETURN(const std::string filling, Filling(runtime, " ", spaces));
      DS_RETURN_IF_ERROR(buffer.Append(filling));
      column += spaces;
      continue;
    }
    DS_RETURN_IF_ERROR(buffer.Append(std::string_view(&c, 1)));
    if ((static_cast<uint8_t>(c) & 0xC0u) != 0x80) ++column;
    if (c == '\n' || c == '\r') column = 0;
  }
  return runtime.String(buffer.Take(), self.IsSafe());
}

}  // namespace

MethodFunction FindStringMethod(std::string_view name) {
  static const auto* const kMethods = new std::unordered_map<std::string_view, MethodFunction>{
      {"capitalize", Mapped<Capitalize>},
      {"center", Aligned<Align::kCenter>},
      {"count", Count},
      {"endswith", HasAffix<true>},
      {"expandtabs", TabsExpanded},
      {"find", Found<Search::kFind>},
      {"format", FormatBraces},
      {"format_map", FormatMapping},
      {"index", Found<Search::kIndex>},
      {"isalnum", AllAre<IsAlphanumeric>},
      {"isalpha", AllAre<IsAlpha>},
      {"isascii", IsAscii},
      {"isdecimal", AllAre<IsDecimal>},
      {"isdigit", AllAre<IsDigit>},
      {"isidentifier", IsIdentifier},
      {"islower", IsInCase<IsLower, IsUpper>},
      {"isnumeric", AllAre<IsNumeric>},
      {"isprintable", IsAllPrintable},
      {"isspace", AllAre<IsSpace>},
      {"istitle", IsTitleCase},
      {"isupper", IsInCase<IsUpper, IsLower>},
      {"join", Joined},
      {"ljust", Aligned<Align::kLeft>},
      {"lower", Mapped<Lower>},
      {"lstrip", Stripped<Side::kLeft>},
      {"partition", Partition},
      {"removeprefix", WithoutAffix<false>},
      {"removesuffix", WithoutAffix<true>},
      {"replace", Replaced},
      {"rfind", Found<Search::kLastFind>},
      {"rindex", Found<Search::kLastIndex>},
      {"rjust", Aligned<Align::kRight>},
      {"rpartition", RightPartition},
      {"rsplit", RightSplit},
      {"rstrip", Stripped<Side::kRight>},
      {"split", Split},
      {"splitlines", LinesSplit},
      {"startswith", HasAffix<false>},
      {"strip", Stripped<Side::kBoth>},
      {"swapcase", Mapped<SwapCase>},
      {"title", Mapped<Title>},
      {"upper", Mapped<Upper>},
      {"zfill", ZeroFilled},
  };
  const auto found = kMethods->find(name);
  return found == kMethods->end() ? nullptr : found->second;
}

}  // namespace deltaserve::jinja
