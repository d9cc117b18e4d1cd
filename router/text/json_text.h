#pragma once

// JSON as text, spelled as Python's json.dumps(ensure_ascii=False) does, but with every number as
// it was written. Pure functions.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace deltaserve {

// Lists and objects inside one another, at most, in values that are converted.
inline constexpr int kMaxJsonDepth = 100;

// Appends `bytes` as the inside of a JSON string. Byte by byte, so that a string may be escaped in
// pieces that end anywhere.
void AppendJsonEscaped(std::string_view bytes, std::string* json);

// `text`, UTF-8, as a JSON string.
std::string JsonString(std::string_view text);

// `text` with ", " and ": " as separators, no other white space, strings escaped as above, numbers
// as they are spelled. nullopt where it is not JSON, is nested deeper than kMaxJsonDepth or holds a
// number beyond double.
std::optional<std::string> NormalizeJson(std::string_view text);

// `text` as a JSON integer, where Python's int() takes it: white space around it, a sign, leading
// zeros and single underscores between digits are legal. nullopt where not, or beyond double.
std::optional<std::string> PythonIntToJson(std::string_view text);

// `text` as a JSON number, where Python's float() takes it and it is finite: what is JSON keeps its
// spelling, else it is changed no more than needed (".5" becomes 0.5, "5." 5.0, "+5" 5).
std::optional<std::string> PythonFloatToJson(std::string_view text);

}  // namespace deltaserve
