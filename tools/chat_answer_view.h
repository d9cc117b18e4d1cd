#pragma once

// Shows one streamed answer on a terminal and keeps what the next turn needs of it.

#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "deltaserve/v1/inference.pb.h"

namespace deltaserve {

// Threads: one at a time. Owner: the turn.
class AnswerView {
 public:
  // colours: reasoning is dim and tool calls are coloured (a terminal); otherwise they have marks.
  explicit AnswerView(bool colours);

  void Add(const v1::ChatDelta& delta);
  void Add(const std::string& text);  // of Generate
  void End(const v1::Finished& finished);
  // The end of an answer that its reader cancelled.
  void Cancelled();
  // Ends the line that was begun; of an answer that failed.
  void Close();

  // The answer as a message of the conversation.
  v1::Message message() const;

 private:
  enum class Style { kNone, kContent, kReasoning, kCall };
  void Write(Style style, const std::string& text);
  void SetStyle(Style style);
  std::string Speed(uint32_t tokens) const;

  const bool colours_;
  const absl::Time began_;
  std::optional<absl::Time> first_;
  Style style_ = Style::kNone;
  bool at_line_start_ = true;
  bool calls_are_whole_ = false;
  uint32_t num_tokens_ = 0;  // told so far
  std::string content_, reasoning_;
  std::map<uint32_t, v1::ToolCall> calls_;
};

// "error: ...", field and remedy, to stderr.
void ShowError(const absl::Status& status);

}  // namespace deltaserve
