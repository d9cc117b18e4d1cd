#pragma once

// Python literals as JSON: what a model writes that has learnt its arguments as str(value).

#include <optional>
#include <string>
#include <string_view>

namespace deltaserve {

// `text`, UTF-8, as JSON where Python's ast.literal_eval takes it and json.dumps its value: None,
// booleans, numbers (decimal ones keep their spelling, others are of 64 bits), strings, lists,
// tuples (as lists), dicts (keys become strings as json.dumps makes them; one that stands twice is
// written twice). nullopt for all else, also bytes, sets, complex numbers, \N escapes, surrogates,
// and where it is nested deeper than kMaxJsonDepth. Time: linear. Pure.
std::optional<std::string> PythonLiteralToJson(std::string_view text);

}  // namespace deltaserve
