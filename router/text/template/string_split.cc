#include "router/text/template/string_split.h"

#include <algorithm>
#include <utility>

#include "kernels/base/status_macros.h"
#include "kernels/base/utf8.h"
#include "router/text/template/arguments.h"
#include "router/text/template/operators.h"
#include "router/text/template/string_parts.h"
#include "router/text/template/text.h"

namespace deltaserve::jinja {
namespace {

absl::StatusOr<Value> Strings(Runtime& runtime,
                              const Value& self,
                              const std::vector<std::string_view>& parts) {
  DS_RETURN_IF_ERROR(runtime.CheckRoom(parts.size() * sizeof(Value)));
  std::vector<Value> items;
  items.reserve(parts.size());
  for (const std::string_view part : parts) {
    DS_ASSIGN_OR_RETURN(Value item, runtime.String(std::string(part), self.IsSafe()));
    items.push_back(std::move(item));
  }
  return runtime.List(std::move(items));
}

// Where the white space and the words of `text` are: offsets where one ends and the other begins.
// Even places begin a word.
absl::StatusOr<std::vector<size_t>> WordBorders(Runtime& runtime, std::string_view text) {
  std::vector<size_t> borders;
  bool in_word = false;
  for (size_t at = 0; at < text.size();) {
    size_t end = at + 1;
    while (end < text.size() && (static_cast<uint8_t>(text[end]) & 0xC0u) == 0x80) ++end;
    const bool is_word = !IsSpace(ToCodePoints(text.substr(at, end - at))[0]);
    if (is_word != in_word) DS_RETURN_IF_ERROR(AddPiece(runtime, at, &borders));
    in_word = is_word;
    at = end;
  }
  if (in_word) borders.push_back(text.size());
  return borders;
}

// Words between white space, at most `most` cuts from one side; what is left is one piece.
absl::StatusOr<std::vector<std::string_view>> Words(Runtime& runtime,
                                                    std::string_view text,
                                                    Int most,
                                                    bool from_right) {
  std::vector<size_t> borders;
  DS_ASSIGN_OR_RETURN(borders, WordBorders(runtime, text));
  const size_t num_words = borders.size() / 2;
  const size_t cuts =
      most < 0 || most >= static_cast<Int>(num_words) ? num_words : static_cast<size_t>(most);
  std::vector<std::string_view> parts;
  const auto word = [&](size_t i) {
    return text.substr(borders[2 * i], borders[2 * i + 1] - borders[2 * i]);
  };
  if (from_right) {
    const size_t rest = num_words - cuts;
    if (rest > 0) parts.push_back(text.substr(0, borders[2 * rest - 1]));
    for (size_t i = rest; i < num_words; ++i) {
      DS_RETURN_IF_ERROR(AddPiece(runtime, word(i), &parts));
    }
  } else {
    for (size_t i = 0; i < cuts; ++i) DS_RETURN_IF_ERROR(AddPiece(runtime, word(i), &parts));
    if (cuts < num_words) parts.push_back(text.substr(borders[2 * cuts]));
  }
  return parts;
}

absl::StatusOr<std::vector<std::string_view>> Pieces(Runtime& runtime,
                                                     std::string_view text,
                                                     std::string_view separator,
                                                     Int most,
                                                     bool from_right) {
  std::vector<std::string_view> parts;
  if (!from_right) {
    size_t at = 0;
    while (most < 0 || static_cast<Int>(parts.size()) < most) {
      const size_t found = FindText(text, separator, at);
      if (found == std::string_view::npos) break;
      DS_RETURN_IF_ERROR(AddPiece(runtime, text.substr(at, found - at), &parts));
      at = found + separator.size();
    }
    parts.push_back(text.substr(at));
    return parts;
  }
  while (most < 0 || static_cast<Int>(parts.size()) < most) {
    const size_t found = text.rfind(separator);
    if (found == std::string_view::npos) break;
    DS_RETURN_IF_ERROR(AddPiece(runtime, text.substr(found + separator.size()), &parts));
    text = text.substr(0, found);
  }
  parts.push_back(text);
  std::reverse(parts.begin(), parts.end());
  return parts;
}

absl::StatusOr<Value> SplitFrom(Runtime& runtime,
                                const Value& self,
                                const Arguments& arguments,
                                bool from_right) {
  const std::string_view name = from_right ? "rsplit" : "split";
  DS_ASSIGN_OR_RETURN(const std::vector<Value> bound,
                      Bind(name, arguments, {"sep", "maxsplit"}, 0));
  DS_ASSIGN_OR_RETURN(const Int most, IntArgument(name, bound[1], -1));
  DS_RETURN_IF_ERROR(runtime.Work(self.text().size() * 4));
  std::vector<std::string_view> parts;
  if (bound[0].IsMissing() || bound[0].IsNone()) {
    DS_ASSIGN_OR_RETURN(parts, Words(runtime, self.text(), most, from_right));
    return Strings(runtime, self, parts);
  }
  DS_RETURN_IF_ERROR(ExpectString(name, bound[0]));
  if (bound[0].text().empty()) return Wrong("empty separator");
  if (from_right) DS_RETURN_IF_ERROR(WorkOfLastFind(runtime, self.text(), bound[0].text()));
  DS_ASSIGN_OR_RETURN(parts, Pieces(runtime, self.text(), bound[0].text(), most, from_right));
  return Strings(runtime, self, parts);
}

absl::StatusOr<Value> PartitionFrom(Runtime& runtime,
                                    const Value& self,
                                    const Arguments& arguments,
                                    bool from_right) {
  DS_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("partition", arguments, {""}, 1));
  DS_RETURN_IF_ERROR(ExpectString("partition", bound[0]));
  const std::string_view text = self.text();
  const std::string_view separator = bound[0].text();
  if (separator.empty()) return Wrong("empty separator");
  DS_RETURN_IF_ERROR(runtime.Work(text.size()));
  if (from_right) DS_RETURN_IF_ERROR(WorkOfLastFind(runtime, text, separator));
  const size_t found = from_right ? text.rfind(separator) : FindText(text, separator);
  std::vector<std::string_view> parts = {text, "", ""};
  if (found != std::string_view::npos) {
    parts = {text.substr(0, found), separator, text.substr(found + separator.size())};
  } else if (from_right) {
    parts = {"", "", text};
  }
  DS_ASSIGN_OR_RETURN(const Value list, Strings(runtime, self, parts));
  return runtime.Tuple(list.items());
}

}  // namespace

absl::Status WorkOfLastFind(Runtime& runtime, std::string_view text, std::string_view needle) {
  return runtime.Step(static_cast<int64_t>(text.size() / 64 * (needle.size() / 16 + 1)));
}

absl::StatusOr<Value> Split(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return SplitFrom(runtime, self, arguments, false);
}

absl::StatusOr<Value> RightSplit(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return SplitFrom(runtime, self, arguments, true);
}

absl::StatusOr<Value> LinesSplit(Runtime& runtime, const Value& self, const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const std::vector<Value> bound,
                      Bind("splitlines", arguments, {"keepends"}, 0));
  std::vector<std::string_view> lines;
  DS_ASSIGN_OR_RETURN(lines, SplitLines(runtime, self.text(), Truth(bound[0])));
  return Strings(runtime, self, lines);
}

absl::StatusOr<Value> Partition(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return PartitionFrom(runtime, self, arguments, false);
}

absl::StatusOr<Value> RightPartition(Runtime& runtime,
                                     const Value& self,
                                     const Arguments& arguments) {
  return PartitionFrom(runtime, self, arguments, true);
}

}  // namespace deltaserve::jinja
