// Filters of text (filter_functions.h).

#include <algorithm>
#include <utility>

#include "kernels/base/status_macros.h"
#include "router/text/template/arguments.h"
#include "router/text/template/filter_functions.h"
#include "router/text/template/iterate.h"
#include "router/text/template/lookups.h"
#include "router/text/template/operators.h"
#include "router/text/template/repr.h"
#include "router/text/template/string_format.h"
#include "router/text/template/string_parts.h"
#include "router/text/template/text.h"

namespace deltaserve::jinja {
namespace {

using Bound = std::vector<Value>;

absl::StatusOr<Value> InCase(Runtime& runtime,
                             const Value& value,
                             const Arguments& arguments,
                             CaseMapping mapping) {
  DS_RETURN_IF_ERROR(Bind("the filter", arguments, {}, 0).status());
  DS_ASSIGN_OR_RETURN(const Value text, TextValue(runtime, value));
  DS_ASSIGN_OR_RETURN(std::string mapped, MapCase(runtime, text.text(), mapping));
  return runtime.String(std::move(mapped), text.IsSafe());
}

// Where the filter title begins a word: after any of these.
bool BeginsWord(char32_t c) {
  return c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || IsSpace(c);
}

std::u32string TitleWords(std::u32string_view text) {
  std::u32string result;
  for (size_t at = 0; at < text.size();) {
    size_t end = at + 1;
    while (end < text.size() && BeginsWord(text[end]) == BeginsWord(text[at])) ++end;
    result += Upper(text.substr(at, 1));
    result += Lower(text.substr(at + 1, end - at - 1));
    at = end;
  }
  return result;
}

}  // namespace

absl::StatusOr<Value> CapitalizeFilter(Runtime& runtime,
                                       const Value& value,
                                       const Arguments& arguments) {
  return InCase(runtime, value, arguments, Capitalize);
}
absl::StatusOr<Value> LowerFilter(Runtime& runtime,
                                  const Value& value,
                                  const Arguments& arguments) {
  return InCase(runtime, value, arguments, Lower);
}
absl::StatusOr<Value> UpperFilter(Runtime& runtime,
                                  const Value& value,
                                  const Arguments& arguments) {
  return InCase(runtime, value, arguments, Upper);
}

absl::StatusOr<Value> TitleFilter(Runtime& runtime,
                                  const Value& value,
                                  const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Value title, InCase(runtime, value, arguments, TitleWords));
  // It is put together from pieces, which loses what was safe.
  return runtime.String(title.text());
}

absl::StatusOr<Value> CenterFilter(Runtime& runtime,
                                   const Value& value,
                                   const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound, Bind("center", arguments, {"width"}, 0));
  DS_ASSIGN_OR_RETURN(const Int width, IntArgument("center", bound[0], 80));
  DS_ASSIGN_OR_RETURN(const Value text, TextValue(runtime, value));
  DS_ASSIGN_OR_RETURN(
      std::string centered,
      Center(runtime, text.text(), static_cast<Int>(text.string().length), width, " "));
  return runtime.String(std::move(centered), text.IsSafe());
}

absl::StatusOr<Value> EscapeFilter(Runtime& runtime,
                                   const Value& value,
                                   const Arguments& arguments) {
  DS_RETURN_IF_ERROR(Bind("escape", arguments, {}, 0).status());
  if (value.IsSafe()) return value;
  return ForceEscapeFilter(runtime, value, arguments);
}

absl::StatusOr<Value> ForceEscapeFilter(Runtime& runtime,
                                        const Value& value,
                                        const Arguments& arguments) {
  DS_RETURN_IF_ERROR(Bind("forceescape", arguments, {}, 0).status());
  DS_ASSIGN_OR_RETURN(const std::string text, Text(runtime, value));
  DS_RETURN_IF_ERROR(runtime.CheckRoom(text.size() * kMostEscaped));
  return runtime.String(EscapeHtml(text), true);
}

absl::StatusOr<Value> SafeFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  DS_RETURN_IF_ERROR(Bind("safe", arguments, {}, 0).status());
  DS_ASSIGN_OR_RETURN(std::string text, Text(runtime, value));
  return runtime.String(std::move(text), true);
}

absl::StatusOr<Value> StringFilter(Runtime& runtime,
                                   const Value& value,
                                   const Arguments& arguments) {
  DS_RETURN_IF_ERROR(Bind("string", arguments, {}, 0).status());
  return TextValue(runtime, value);
}

absl::StatusOr<Value> TrimFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound, Bind("trim", arguments, {"chars"}, 0));
  DS_ASSIGN_OR_RETURN(const Value text, TextValue(runtime, value));
  DS_ASSIGN_OR_RETURN(const std::string_view trimmed,
                      Strip(runtime, text.text(), bound[0], Side::kBoth));
  return runtime.String(std::string(trimmed), text.IsSafe());
}

absl::StatusOr<Value> ReplaceFilter(Runtime& runtime,
                                    const Value& value,
                                    const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound, Bind("replace", arguments, {"old", "new", "count"}, 2));
  DS_ASSIGN_OR_RETURN(const Int count, IntArgument("replace", bound[2], -1, true));
  DS_ASSIGN_OR_RETURN(const std::string text, Text(runtime, value));
  DS_ASSIGN_OR_RETURN(const std::string from, Text(runtime, bound[0]));
  DS_ASSIGN_OR_RETURN(const std::string to, Text(runtime, bound[1]));
  DS_ASSIGN_OR_RETURN(std::string replaced, Replace(runtime, text, from, to, count));
  return runtime.String(std::move(replaced));
}

absl::StatusOr<Value> FormatFilter(Runtime& runtime,
                                   const Value& value,
                                   const Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.keywords.empty()) {
    return Wrong("can't handle positional and keyword arguments at the same time");
  }
  DS_ASSIGN_OR_RETURN(const Value text, TextValue(runtime, value));
  if (arguments.keywords.empty()) {
    DS_ASSIGN_OR_RETURN(const Value tuple, runtime.Tuple(arguments.positional));
    return FormatPercent(runtime, text, tuple);
  }
  auto dict = std::make_shared<DictObject>();
  for (const auto& [name, argument] : arguments.keywords) {
    dict->Set(Value::Constant(name), argument);
  }
  DS_ASSIGN_OR_RETURN(const Value mapping, runtime.Dict(std::move(dict)));
  return FormatPercent(runtime, text, mapping);
}

absl::StatusOr<Value> IndentFilter(Runtime& runtime,
                                   const Value& value,
                                   const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound, Bind("indent", arguments, {"width", "first", "blank"}, 0));
  std::string indent;
  if (bound[0].IsString()) {
    indent = bound[0].text();
  } else {
    DS_ASSIGN_OR_RETURN(const Int width, IntArgument("indent", bound[0], 4));
    DS_ASSIGN_OR_RETURN(indent, Filling(runtime, " ", width));
  }
  if (value.IsUndefined()) return UndefinedUse(value);
  if (!value.IsString()) {
    return Wrong("unsupported operand type(s) for +=: '", TypeName(value), "' and 'str'");
  }
  if (value.IsSafe()) indent = bound[0].IsSafe() ? indent : EscapeHtml(indent);
  const bool takes_blank = Truth(bound[2]);
  const std::string text = value.text() + "\n";
  Buffer buffer(&runtime);
  if (Truth(bound[1])) DS_RETURN_IF_ERROR(buffer.Append(indent));
  bool is_first = true;
  std::vector<std::string_view> lines;
  DS_ASSIGN_OR_RETURN(lines, SplitLines(runtime, text, false));
  for (const std::string_view line : lines) {
    if (!std::exchange(is_first, false)) {
      DS_RETURN_IF_ERROR(buffer.Append("\n"));
      if (takes_blank || !line.empty()) DS_RETURN_IF_ERROR(buffer.Append(indent));
    }
    DS_RETURN_IF_ERROR(buffer.Append(line));
  }
  return runtime.String(buffer.Take(), value.IsSafe());
}

absl::StatusOr<Value> TruncateFilter(Runtime& runtime,
                                     const Value& value,
                                     const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound,
                      Bind("truncate", arguments, {"length", "killwords", "end", "leeway"}, 0));
  DS_ASSIGN_OR_RETURN(const Int length, IntArgument("truncate", bound[0], 255));
  DS_ASSIGN_OR_RETURN(const Int leeway, IntArgument("truncate", bound[3], 5, true));
  const Value end = bound[2].IsMissing() ? Value::Constant("...") : bound[2];
  DS_RETURN_IF_ERROR(ExpectString("truncate", end));
  const auto end_length = static_cast<Int>(end.string().length);
  if (length < end_length) return Wrong("truncate: the length is less than that of the end");
  if (leeway < 0) return Wrong("truncate: the leeway is negative");
  DS_ASSIGN_OR_RETURN(const Int size, Length(value));
  if (size <= length + leeway) return value;
  DS_RETURN_IF_ERROR(ExpectString("truncate", value));
  DS_ASSIGN_OR_RETURN(
      Value kept, GetSlice(runtime, value, Value(), Value::Integer(length - end_length), Value()));
  if (!Truth(bound[1])) {
    const size_t space = kept.text().rfind(' ');
    DS_ASSIGN_OR_RETURN(kept, runtime.String(kept.text().substr(0, space), value.IsSafe()));
  }
  return Binary(runtime, BinaryOp::kAdd, kept, end);
}

absl::StatusOr<Value> WordCountFilter(Runtime& runtime,
                                      const Value& value,
                                      const Arguments& arguments) {
  DS_RETURN_IF_ERROR(Bind("wordcount", arguments, {}, 0).status());
  DS_ASSIGN_OR_RETURN(const std::string text, Text(runtime, value));
  std::u32string points;
  DS_ASSIGN_OR_RETURN(points, CodePoints(runtime, text));
  Int count = 0;
  bool is_inside = false;
  for (const char32_t c : points) {
    const bool is_word = IsAlphanumeric(c) || c == '_';
    if (is_word && !is_inside) ++count;
    is_inside = is_word;
  }
  return Value::Integer(count);
}

}  // namespace deltaserve::jinja
