#pragma once

// The arguments of one tool call as a JSON object that grows: text streams, values of other types
// come when they are whole.

#include <cstddef>
#include <string>
#include <string_view>

#include "router/text/tool_schema.h"

namespace deltaserve {

// Bytes of one value that is not plain text; a longer one becomes text.
inline constexpr size_t kMaxTypedValueBytes = size_t{1} << 20;

// Writes {"name": value, ...}. What is appended, joined, is valid JSON once Close() has been called
// (where names and values are UTF-8) and does not depend on the pieces of a value. A name given
// twice stands twice, so readers take the last, as vLLM does: the first is on its way by then.
// Threads: one at a time. Owner: the parser of the call.
class ArgumentStream {
 public:
  void Open(std::string* json);
  void Close(std::string* json);

  void BeginValue(std::string_view name, const ParameterType& type, std::string* json);
  // Bytes of the value. One newline at its start and one at its end are not part of it.
  void AddToValue(std::string_view bytes, std::string* json);
  void EndValue(std::string* json);

 private:
  // False while the value must be whole to be converted.
  bool Streams() const;
  void Put(std::string_view bytes, std::string* json);

  bool first_ = true;
  ParameterType type_;
  bool at_value_start_ = false;
  bool streaming_ = false;     // the opening quote is out
  bool held_newline_ = false;  // of a streamed value: the last byte so far
  std::string raw_;            // of a value not streamed: all of it so far
};

}  // namespace deltaserve
