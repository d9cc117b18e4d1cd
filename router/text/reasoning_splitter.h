#pragma once

// Splits an answer's text into reasoning (what stands in <think>...</think>) and content, whatever
// its pieces. Pure; bytes, so a piece may end inside a character.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace deltaserve {

// Bytes of a tool call inside reasoning, and of what follows it, that wait for </think>.
inline constexpr size_t kMaxHeldReasoningBytes = size_t{1} << 16;

// What becomes of the newlines that the template's form puts around reasoning.
enum class ReasoningNewlines : uint8_t {
  kKeep,  // every byte between and after the tags is kept, as in vLLM's qwen3 parser
  kTrim,  // those at both ends of the reasoning and at the start of the content after it are
          // dropped
};

// Whether a tool call can end reasoning that nothing closes.
enum class CallsInReasoning : uint8_t {
  kEndIt,
  kAreThoughts,  // nobody asked for calls: they are text as any other
};

// The rules, those of vLLM's qwen3 parser where it has one:
//  - <think> is a tag at the start of the answer only, where white space may precede it; that is
//    dropped. An answer that starts in reasoning may repeat the tag. Elsewhere it is text.
//  - </think> ends the reasoning. Without reasoning it is text, and so is a second one.
//  - With kEndIt, a tool call (<tool_call>, white space, <function=) inside reasoning that nothing
//    closes ends it and is content. Whether something does is known at </think> (then the call is a
//    thought), at the end of the answer or after kMaxHeldReasoningBytes; until then the call is
//    held back.
//  - Reasoning that is never closed is reasoning to the end.
// White space that decides (before <think>, inside a call's start) is at most 64 bytes.
// All text returned, joined, does not depend on the pieces. Threads: one at a time. Owner: the
// stream.
class ReasoningSplitter {
 public:
  // starts_in_reasoning: the prompt opened the reasoning; see EndsInsideReasoning().
  ReasoningSplitter(bool starts_in_reasoning,
                    ReasoningNewlines newlines,
                    CallsInReasoning calls = CallsInReasoning::kEndIt);

  struct Result {
    std::string reasoning;  // stands before `content`
    std::string content;
  };

  Result Add(std::string_view piece);

  // The end of the stream: what was held back.
  Result Finish();

  // True while what Add() takes next is reasoning, as far as is decided.
  bool in_reasoning() const { return in_reasoning_; }
  // True while a call waits to be known as a thought or as content, and from when it is content.
  bool holds_call() const { return in_reasoning_ && holds_call_; }
  bool ended_by_call() const { return ended_by_call_; }

 private:
  // Each takes what it can of buffer_; false where it needs more.
  bool TakeStart(bool finished);
  bool TakeReasoning(bool finished, Result* result);
  void TakeContent(Result* result);
  Result Take(bool finished);

  void PutReasoning(std::string_view text, Result* result);
  // Everything of buffer_ before `reasoning_end` is reasoning, and content starts at
  // `content_begin`.
  void Close(size_t reasoning_end, size_t content_begin, Result* result);
  // Where </think> stands behind the call at `call_at`, or buffer_.size() where none does; nullopt
  // where more bytes decide.
  std::optional<size_t> FindClosingTag(size_t call_at, bool finished);

  const ReasoningNewlines newlines_;
  const CallsInReasoning calls_;
  bool in_reasoning_;
  bool holds_call_ = false;  // at the front of buffer_
  bool ended_by_call_ = false;
  bool at_start_ = true;         // of the answer
  bool reasoning_text_ = false;  // some reasoning was released
  bool trim_content_ = false;    // newlines come next that are dropped
  size_t held_newlines_ =
      0;                     // of the reasoning, where they are trimmed: not yet known to be inside
  size_t call_scanned_ = 0;  // of a call that is held at the front of buffer_
  std::string buffer_;
};

// True where a rendered prompt leaves the model inside reasoning: in its last turn the last <think>
// has no </think> or <|im_end|> after it.
bool EndsInsideReasoning(std::string_view rendered_prompt);

}  // namespace deltaserve
