#pragma once

// Searching a stream for tags such as "</think>" that may be cut anywhere. Pure functions.

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

namespace deltaserve {

inline constexpr std::string_view kThinkTag = "<think>";
inline constexpr std::string_view kThinkEndTag = "</think>";
inline constexpr std::string_view kToolCallTag = "<tool_call>";
inline constexpr std::string_view kToolCallEndTag = "</tool_call>";
inline constexpr std::string_view kFunctionTag = "<function=";
inline constexpr std::string_view kFunctionEndTag = "</function>";
inline constexpr std::string_view kParameterTag = "<parameter=";
inline constexpr std::string_view kParameterEndTag = "</parameter>";

// The bytes of the longest of the tags above.
inline constexpr size_t kLongestTag = kParameterEndTag.size();

struct TagHit {
  size_t at;             // offset of its first byte
  std::string_view tag;  // which of those asked for
};

// The first whole tag of `tags` in `text` that begins at `from` or later. Every tag begins with
// '<', and none is a prefix of another.
std::optional<TagHit> FindTag(std::string_view text,
                              size_t from,
                              std::span<const std::string_view> tags);

// The offset at or after `from` of the suffix of `text` that more bytes may make a tag of `tags`;
// text.size() where there is none.
size_t FindPartialTag(std::string_view text, size_t from, std::span<const std::string_view> tags);

// The offset at or after `from` of the first byte that is not a space, tab, CR or LF; text.size()
// where there is none.
size_t SkipSpace(std::string_view text, size_t from);

}  // namespace deltaserve
