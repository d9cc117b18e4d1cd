#pragma once

// Qwen's XML tool calls found in a stream of content, whatever its pieces:
//   <tool_call>\n<function=NAME>\n<parameter=P>\nVALUE\n</parameter>\n</function>\n</tool_call>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "router/text/argument_stream.h"
#include "router/text/tool_schema.h"

namespace deltaserve {

// Bytes of the name of a tool or a parameter; a longer one is none.
inline constexpr size_t kMaxToolNameBytes = 256;
// Bytes that wait for the tag that decides what they are.
inline constexpr size_t kMaxHeldToolBytes = size_t{1} << 16;

struct ToolCallEvent {
  enum class Kind : uint8_t {
    kContent,    // text: content outside calls
    kCallStart,  // text: the tool's name
    kArguments,  // text: the next bytes of the call's arguments, a JSON object
    kCallEnd,    // the arguments are whole
  };
  Kind kind;
  size_t index = 0;  // of the call, from 0; 0 for content
  std::string text = {};
};

// The rules, those of vLLM's qwen3_coder parser (specification 7.7) where they can stream:
//  - Content is the text before the first call, as it stands. Later text outside calls is dropped.
//  - A call starts at <function=NAME>, which <tool_call> may precede; what stands between them is
//    dropped. NAME holds no '<' or newline; spaces around it are dropped. A <tool_call> that
//    </tool_call>, another <tool_call> or the end follows before a <function=NAME> is text outside
//    calls, as is a <function= without a name. So no call can be malformed: its name is whole, and
//    its arguments always end as valid JSON.
//  - A value ends at </parameter>, at a next <parameter=P> or at the end of the call or the stream.
//    So it may hold every other tag, and a value that quotes <parameter=P> is cut there.
//  - </function> and </tool_call> end the call; inside a value they do unless </parameter> comes
//    before the next <parameter=, <function=, <tool_call> or end of the stream: then they are text
//    of the value.
//  - Between values of a call text is dropped; <tool_call> and <function= there end the call, and
//    the next begins.
//  - A call that nothing ends is ended by Finish().
// Types of values: ArgumentJson(). Content and arguments, joined, do not depend on the pieces.
// Input is UTF-8 as a whole, so that arguments are JSON; a piece may end inside a character.
// Threads: one at a time. Owner: the stream. `schema` must outlive it.
class ToolCallParser {
 public:
  explicit ToolCallParser(const ToolSchema& schema) : schema_(&schema) {}

  // What the next piece decides. Neighbours of one kind are one event.
  std::vector<ToolCallEvent> Add(std::string_view piece);

  // The end of the stream: what was held, and the end of an open call.
  std::vector<ToolCallEvent> Finish();

  // Calls started so far.
  size_t num_calls() const { return num_calls_; }
  // After Finish(): the stream ended inside of a call, whose arguments may be cut.
  bool broke_off() const { return broke_off_; }

 private:
  enum class State : uint8_t {
    kOutside,  // not in a call
    kOpened,   // rest() starts with <tool_call>; a <function= is looked for
    kName,     // rest() has <function= at tag_at_; its name is looked for
    kBody,     // in a call, not in a value
    kValue,    // in a value
    kEnding,   // rest() starts with a </function> or </tool_call> that may be text of the value
  };
  using Events = std::vector<ToolCallEvent>;

  // Each takes what it can off the front of rest(); false where it needs more bytes.
  bool Step(Events* events);
  bool StepOutside(Events* events);
  bool StepOpened(Events* events);
  bool StepName(Events* events);
  bool StepBody(Events* events);
  bool StepValue(Events* events);
  bool StepEnding(Events* events);

  Events Run(std::string_view piece, bool finished);
  void PutOutside(size_t num_bytes, Events* events);  // content, or dropped after a call
  void StartCall(std::string_view name, Events* events);
  void EndCall(Events* events);
  void BreakOff(Events* events);
  void BeginValue(std::string_view name, Events* events);
  void AddToValue(size_t num_bytes, Events* events);
  void EndValue(Events* events);
  void PutArguments(std::string_view json, Events* events);
  void Drop(size_t num_bytes) { begin_ += num_bytes; }
  void GoTo(State state);
  std::string_view rest() const { return std::string_view(buffer_).substr(begin_); }

  const ToolSchema* schema_;
  State state_ = State::kOutside;
  bool finished_ = false;
  std::string buffer_;
  size_t begin_ = 0;  // of what is left of buffer_
  size_t scanned_ =
      0;  // in kOpened and kEnding: no tag that is looked for begins before it in rest()
  size_t tag_at_ = 0;
  size_t num_calls_ = 0;
  bool broke_off_ = false;
  std::string name_;  // of the open call
  ArgumentStream arguments_;
};

}  // namespace deltaserve
