#pragma once

// Question: a conversation that waits for an answer, and the answer that is right. Read from JSON
// lines, as tools/train/questions.py writes them. Pure; any thread.

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "deltaserve/v1/inference.pb.h"
#include "nlohmann/json.hpp"

namespace deltaserve {

// A call of a tool, whole.
struct ToolUse {
  std::string name;
  nlohmann::ordered_json arguments;

  // Arguments are an object: their order does not count.
  bool operator==(const ToolUse& other) const;
};

struct Question {
  std::string id;
  std::string task;
  v1::ChatRequest request;  // the conversation and its tools; no options
  bool thinking = false;
  // What is right.
  std::string content;
  std::vector<ToolUse> calls;
};

// The fields of `value`: {"name", "arguments"}. Errors: INVALID_FIELD naming "tool_calls".
absl::StatusOr<std::vector<ToolUse>> ParseToolUses(const nlohmann::ordered_json& value);

// The question of one line: {"id", "task", "messages", "answer", "tools", "thinking",
// "tool_calls"}, the last three optional. Errors: INVALID_FIELD naming the field.
absl::StatusOr<Question> ParseQuestion(const std::string& line);

// The questions of a file; of the `tasks` alone where there are any. Errors: InvalidArgument naming
// file and line, or a task that has no question.
absl::StatusOr<std::vector<Question>> ReadQuestions(const std::string& path,
                                                    const std::vector<std::string>& tasks);

}  // namespace deltaserve
