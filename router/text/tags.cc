#include "router/text/tags.h"

#include <algorithm>

namespace deltaserve {

std::optional<TagHit> FindTag(std::string_view text,
                              size_t from,
                              std::span<const std::string_view> tags) {
  for (size_t at = text.find('<', from); at != std::string_view::npos;
       at = text.find('<', at + 1)) {
    for (const std::string_view tag : tags) {
      if (text.substr(at).starts_with(tag)) return TagHit{at, tag};
    }
  }
  return std::nullopt;
}

size_t FindPartialTag(std::string_view text, size_t from, std::span<const std::string_view> tags) {
  // A tag holds one '<', so only the last one of the text can begin an unfinished tag.
  const size_t at = text.rfind('<');
  if (at == std::string_view::npos || at < from) return text.size();
  const std::string_view suffix = text.substr(at);
  const bool partial = std::any_of(tags.begin(), tags.end(), [suffix](std::string_view tag) {
    return suffix.size() < tag.size() && tag.starts_with(suffix);
  });
  return partial ? at : text.size();
}

size_t SkipSpace(std::string_view text, size_t from) {
  const size_t at = text.find_first_not_of(" \t\r\n", from);
  return at == std::string_view::npos ? text.size() : at;
}

}  // namespace deltaserve
