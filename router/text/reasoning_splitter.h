#pragma once

// Splits an answer's text into reasoning (what stands in <think>...</think>) and content, whatever
// its pieces. Pure; bytes, so a piece may end inside a character.

#include <cstdint>
#include <string>
#include <string_view>

namespace deltaserve {

// What becomes of the newlines that the template's form puts around reasoning.
enum class ReasoningNewlines : uint8_t {
  kKeep,  // every byte between and after the tags is kept, as in vLLM's qwen3 parser
  kTrim,  // newlines at both ends of the reasoning and at the start of the content after it are
          // dropped
};

// The rules, those of vLLM's qwen3 parser where it has one:
//  - <think> is a tag at the start of the answer only, where white space may precede it; that is
//    dropped. An answer that starts in reasoning may repeat the tag. Elsewhere it is text.
//  - </think> ends the reasoning. Without reasoning it is text, and so is a second one.
//  - A tool call inside unclosed reasoning ends it: <tool_call>, white space, <function=. All of
//  the
//    call is content. A <tool_call> that nothing of that kind follows is text of the reasoning.
//  - Reasoning that is never closed is reasoning to the end.
// White space that decides (before <think>, inside a call's start) is at most 64 bytes.
// All text returned, joined, does not depend on the pieces. Threads: one at a time. Owner: the
// stream.
class ReasoningSplitter {
 public:
  // starts_in_reasoning: the prompt opened the reasoning; see EndsInsideReasoning().
  ReasoningSplitter(bool starts_in_reasoning, ReasoningNewlines newlines);

  struct Result {
    std::string reasoning;  // stands before `content`
    std::string content;
  };

  Result Add(std::string_view piece);

  // The end of the stream: what was held back.
  Result Finish();

  // True while what Add() takes next is reasoning, as far as is decided.
  bool in_reasoning() const { return in_reasoning_; }

 private:
  // Each takes what it can of buffer_; false where it needs more.
  bool TakeStart(bool finished);
  bool TakeReasoning(bool finished, Result* result);
  void TakeContent(Result* result);
  Result Take(bool finished);

  void PutReasoning(std::string_view text, Result* result);
  void EndReasoning();

  ReasoningNewlines newlines_;
  bool in_reasoning_;
  bool at_start_ = true;         // of the answer
  bool reasoning_text_ = false;  // some reasoning was released
  bool trim_content_ = false;    // newlines come next that are dropped
  size_t held_newlines_ =
      0;  // of the reasoning, where they are trimmed: not yet known to be inside
  std::string buffer_;
};

// True where a rendered prompt leaves the model inside reasoning: in its last turn the last <think>
// has no </think> or <|im_end|> after it.
bool EndsInsideReasoning(std::string_view rendered_prompt);

}  // namespace deltaserve
