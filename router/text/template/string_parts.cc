#include "router/text/template/string_parts.h"

#include <algorithm>

#include "kernels/base/status_macros.h"
#include "kernels/base/utf8.h"
#include "router/text/template/cat.h"
#include "router/text/template/operators.h"
#include "router/text/template/text.h"

namespace deltaserve::jinja {
namespace {

constexpr size_t kSortedBytes = 64;  // the work of sorting a character, in bytes read

size_t NextCharacter(std::string_view text, size_t at) {
  ++at;
  while (at < text.size() && (static_cast<uint8_t>(text[at]) & 0xC0u) == 0x80) ++at;
  return at;
}

size_t LastCharacter(std::string_view text) {
  size_t at = text.size() - 1;
  while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xC0u) == 0x80) --at;
  return at;
}

}  // namespace

absl::StatusOr<std::u32string> CodePoints(Runtime& runtime, std::string_view text) {
  const size_t bytes = text.size() * sizeof(char32_t);
  DS_RETURN_IF_ERROR(runtime.Work(bytes));
  DS_RETURN_IF_ERROR(runtime.CheckRoom(bytes));
  return ToCodePoints(text);
}

absl::StatusOr<std::string_view> Strip(Runtime& runtime,
                                       std::string_view text,
                                       const Value& chars,
                                       Side side) {
  DS_RETURN_IF_ERROR(runtime.Work(text.size()));
  const bool is_space = chars.IsMissing() || chars.IsNone();
  if (!is_space && !chars.IsString()) return Wrong("strip arg must be None or str");
  std::u32string set;
  if (!is_space) {
    DS_RETURN_IF_ERROR(runtime.Work(chars.text().size() * kSortedBytes));
    DS_ASSIGN_OR_RETURN(set, CodePoints(runtime, chars.text()));
    std::sort(set.begin(), set.end());
  }
  const auto goes = [&](std::string_view character) {
    const char32_t c = ToCodePoints(character)[0];
    return is_space ? IsSpace(c) : std::binary_search(set.begin(), set.end(), c);
  };
  while (side != Side::kRight && !text.empty()) {
    const size_t end = NextCharacter(text, 0);
    if (!goes(text.substr(0, end))) break;
    text.remove_prefix(end);
  }
  while (side != Side::kLeft && !text.empty()) {
    const size_t start = LastCharacter(text);
    if (!goes(text.substr(start))) break;
    text.remove_suffix(text.size() - start);
  }
  return text;
}

absl::StatusOr<std::string> Replace(Runtime& runtime,
                                    std::string_view text,
                                    std::string_view from,
                                    std::string_view to,
                                    Int count) {
  DS_RETURN_IF_ERROR(runtime.Work(text.size()));
  std::string result;
  size_t at = 0;
  for (Int done = 0; count < 0 || done < count; ++done) {
    DS_RETURN_IF_ERROR(runtime.Work(to.size()));
    DS_RETURN_IF_ERROR(runtime.CheckRoom(result.size() + to.size()));
    if (from.empty()) {
      // Before every character and at the end.
      result += to;
      if (at == text.size()) return result;
      const size_t end = NextCharacter(text, at);
      result.append(text.substr(at, end - at));
      at = end;
      continue;
    }
    const size_t found = FindText(text, from, at);
    if (found == std::string_view::npos) break;
    result.append(text.substr(at, found - at));
    result += to;
    at = found + from.size();
  }
  result.append(text.substr(at));
  return result;
}

absl::StatusOr<std::vector<std::string_view>> SplitLines(Runtime& runtime,
                                                         std::string_view text,
                                                         bool keeps_ends) {
  DS_RETURN_IF_ERROR(runtime.Work(text.size() * 4));
  std::vector<std::string_view> lines;
  size_t start = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = NextCharacter(text, at);
    if (!IsLineBreak(ToCodePoints(text.substr(at, end - at))[0])) {
      at = end;
      continue;
    }
    const bool is_pair = text[at] == '\r' && end < text.size() && text[end] == '\n';
    const size_t next = is_pair ? end + 1 : end;
    const std::string_view line = text.substr(start, (keeps_ends ? next : at) - start);
    DS_RETURN_IF_ERROR(AddPiece(runtime, line, &lines));
    start = at = next;
  }
  if (start < text.size()) lines.push_back(text.substr(start));
  return lines;
}

absl::StatusOr<std::string> MapCase(Runtime& runtime, std::string_view text, CaseMapping mapping) {
  DS_RETURN_IF_ERROR(runtime.Work(text.size() * 4));
  DS_RETURN_IF_ERROR(runtime.CheckRoom(text.size() * 8));
  return ToUtf8(mapping(ToCodePoints(text)));
}

Int PlaceOf(const StringObject& string, size_t offset) {
  if (string.IsAscii()) return static_cast<Int>(offset);
  return static_cast<Int>(CountCodePoints(std::string_view(string.text).substr(0, offset)));
}

absl::StatusOr<std::string> Filling(Runtime& runtime, std::string_view fill, Int count) {
  if (count <= 0) return "";
  const size_t bytes =
      count > INT32_MAX ? SIZE_MAX : static_cast<size_t>(count) * std::max<size_t>(fill.size(), 1);
  DS_RETURN_IF_ERROR(runtime.CheckRoom(bytes));
  DS_RETURN_IF_ERROR(runtime.Work(bytes));
  std::string text;
  text.reserve(bytes);
  for (Int i = 0; i < count; ++i) text += fill;
  return text;
}

absl::StatusOr<std::string> Center(
    Runtime& runtime, std::string_view text, Int length, Int width, std::string_view fill) {
  const Int margin = std::max<Int>(width - length, 0);
  const Int left = margin / 2 + (margin & width & 1);
  DS_ASSIGN_OR_RETURN(const std::string before, Filling(runtime, fill, left));
  DS_ASSIGN_OR_RETURN(const std::string after, Filling(runtime, fill, margin - left));
  return Cat(before, text, after);
}

}  // namespace deltaserve::jinja
