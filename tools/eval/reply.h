#pragma once

// Reply: the answer that a model gave to a question, and its JSON line, in which DeltaServe's and
// transformers' answers meet. Pure; any thread.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/eval/question.h"

namespace deltaserve {

enum class ReplyEnd { kStop, kLength, kOther, kFailed };

struct Reply {
  std::string id;  // of the question
  std::string content;
  std::string reasoning;
  std::vector<ToolUse> calls;
  ReplyEnd end = ReplyEnd::kFailed;
  std::string error;             // where the call failed
  std::vector<uint32_t> prompt;  // ids
  std::vector<uint32_t> tokens;  // ids, the token that ended the answer left out
};

// One line: {"id", "content", "reasoning", "tool_calls", "end", "prompt", "tokens"} and, where the
// call failed, "error".
std::string ReplyLine(const Reply& reply);

// What comparing needs of a line: id, end, prompt and tokens. Errors: INVALID_FIELD naming the
// field.
absl::StatusOr<Reply> ParseReply(const std::string& line);

// Errors: InvalidArgument naming file and line.
absl::StatusOr<std::vector<Reply>> ReadReplies(const std::string& path);

}  // namespace deltaserve
