#pragma once

// Joining text and whole numbers into one string. Abseil's StrCat, where it is built with a
// string_view of its own, does not take the standard one.

#include <concepts>
#include <string>
#include <string_view>

namespace deltaserve::jinja {

inline void AppendPiece(std::string_view piece, std::string* out) { out->append(piece); }
template <std::integral Number>
void AppendPiece(Number piece, std::string* out) {
  out->append(std::to_string(piece));
}

template <typename... Pieces>
void CatTo(std::string* out, const Pieces&... pieces) {
  (AppendPiece(pieces, out), ...);
}

template <typename... Pieces>
std::string Cat(const Pieces&... pieces) {
  std::string out;
  CatTo(&out, pieces...);
  return out;
}

}  // namespace deltaserve::jinja
