#pragma once

// One text cut every way that a streaming parser must not notice.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace deltaserve {

using Pieces = std::vector<std::string_view>;

// Calls `check` with `text` whole, in two pieces cut at each byte (inside characters too), and in
// pieces of 1, 2, 3 and 7 bytes, the last with empty pieces between.
inline void ForEachSplit(std::string_view text, const std::function<void(const Pieces&)>& check) {
  check({text});
  for (size_t at = 0; at <= text.size(); ++at) check({text.substr(0, at), text.substr(at)});
  for (const size_t size : {1u, 2u, 3u, 7u}) {
    Pieces pieces;
    for (size_t at = 0; at < text.size(); at += size) {
      pieces.push_back(text.substr(at, size));
      if (size == 7) pieces.emplace_back();
    }
    check(pieces);
  }
}

}  // namespace deltaserve
