#pragma once

// Cutting, searching and joining strings: what str methods and filters share.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "router/text/template/runtime.h"
#include "router/text/template/value.h"

namespace deltaserve::jinja {

enum class Side : uint8_t { kLeft, kRight, kBoth };

// `text` without the characters of `chars` at its ends; without white space where `chars` is
// missing or None. Errors: InvalidArgument where `chars` is no string; ResourceExhausted.
absl::StatusOr<std::string_view> Strip(Runtime& runtime,
                                       std::string_view text,
                                       const Value& chars,
                                       Side side);

// ToCodePoints, counted. Errors: ResourceExhausted.
absl::StatusOr<std::u32string> CodePoints(Runtime& runtime, std::string_view text);

// str.replace with at most `count` replacements; all where it is negative.
absl::StatusOr<std::string> Replace(
    Runtime& runtime, std::string_view text, std::string_view from, std::string_view to, Int count);

// One more piece of a text. Errors: ResourceExhausted where the vector would have to grow past the
// limit.
template <typename T>
absl::Status AddPiece(Runtime& runtime, const T& piece, std::vector<T>* pieces) {
  if (pieces->size() == pieces->capacity()) {
    absl::Status status = runtime.CheckRoom(pieces->size() * 3 * sizeof(T));
    if (!status.ok()) return status;
  }
  pieces->push_back(piece);
  return absl::OkStatus();
}

// str.splitlines. Errors: ResourceExhausted.
absl::StatusOr<std::vector<std::string_view>> SplitLines(Runtime& runtime,
                                                         std::string_view text,
                                                         bool keeps_ends);

// A case mapping of text.h on UTF-8. Errors: ResourceExhausted.
using CaseMapping = std::u32string (*)(std::u32string_view);
absl::StatusOr<std::string> MapCase(Runtime& runtime, std::string_view text, CaseMapping mapping);

// How many code points stand before byte `offset`.
Int PlaceOf(const StringObject& string, size_t offset);

// `count` times the character or string `fill`. Errors: ResourceExhausted.
absl::StatusOr<std::string> Filling(Runtime& runtime, std::string_view fill, Int count);

// `text` in the middle of `width`, as str.center has it.
absl::StatusOr<std::string> Center(
    Runtime& runtime, std::string_view text, Int length, Int width, std::string_view fill);

}  // namespace deltaserve::jinja
