#pragma once

// From a ChatRequest to the conversation that a template renders. Pure; any thread.

#include "absl/status/statusor.h"
#include "deltaserve/v1/inference.pb.h"
#include "router/text/chat_template.h"
#include "router/text/tool_schema.h"

namespace deltaserve {

// A chat request in the form that rendering and parsing take.
struct ChatCall {
  Conversation conversation;
  bool parses_tool_calls = false;  // there are tools, and the model may call them
  bool parallel_tool_calls = true;
  ToolSchema tools;
};

// Errors, each naming its field, messages by index: INVALID_FIELD for an unknown role, a system
// message that is not first, no user message, a message without content, JSON that is none;
// UNSUPPORTED for media and for the forms of tool_choice_json that constrain what is generated.
absl::StatusOr<ChatCall> ReadChatRequest(const v1::ChatRequest& request);

}  // namespace deltaserve
