#include "router/text/template/string_parts.h"

#include <algorithm>

#include "kernels/base/status_macros.h"
#include "router/text/template/cat.h"
#include "router/text/template/operators.h"
#include "router/text/template/text.h"

namespace deltaserve::jinja {
namespace {

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

absl::StatusOr<std::string_view> Strip(std::string_view text, const Value& chars, Side side) {
  const bool is_space = chars.IsMissing() || chars.IsNone();
  if (!is_space && !chars.IsString()) return Wrong("strip arg must be None or str");
  std::u32string set;
  if (!is_space) set = ToCodePoints(chars.text());
  const auto goes = [&](std::string_view character) {
    const char32_t c = ToCodePoints(character)[0];
    return is_space ? IsSpace(c) : set.find(c) != std::u32string::npos;
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

std::vector<std::string_view> SplitLines(std::string_view text, bool keeps_ends) {
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
    lines.push_back(text.substr(start, (keeps_ends ? next : at) - start));
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
