#pragma once

// ChatAnswer: the answers to a conversation: content, reasoning and tool calls.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "router/service/answer.h"
#include "router/service/answer_text.h"
#include "router/service/chat_request.h"
#include "router/text/tool_call_parser.h"

namespace deltaserve {

// The prompt of a conversation. Errors: those of ReadChatRequest and of ChatTemplate::Render.
absl::StatusOr<std::string> RenderChat(const ChatCall& call, const WorldFacts& facts);

class ChatAnswer final : public Answer {
 public:
  explicit ChatAnswer(v1::ChatRequest request) : request_(std::move(request)) {}

  const v1::CallOptions& options() const override { return request_.options(); }
  absl::StatusOr<v1::TokenRequest> Prepare(std::shared_ptr<const WorldFacts> facts,
                                           const ResolverDefaults& defaults) override;
  void AddPromptScores(const v1::TokenEvent::PromptScores& page, AnswerEvents* events) override;
  void Start(const v1::Started& started, AnswerEvents* events) override;
  absl::Status Add(uint32_t choice,
                   const v1::TokenEvent::Tokens& tokens,
                   AnswerEvents* events) override;
  void Finish(v1::Finished finished, bool counts, AnswerEvents* events) override;
  bool IsOver(uint32_t choice) const override { return choices_[choice].is_over(); }

 private:
  struct Choice {
    bool is_over() const { return text.stop_string().has_value() || is_one_call_over; }

    AnswerText text;
    std::optional<ToolCallParser> parser = {};  // where tools may be called
    std::string call_id_prefix = {};
    bool is_one_call_over = false;  // and the client wants no second
  };

  absl::StatusOr<std::optional<v1::ForcedExit>> ThinkingBudget(bool starts_in_reasoning) const;
  // Content and tool calls of the choice's text.
  void AddText(const std::string& text, Choice* choice, v1::ChatDelta* delta) const;
  void AddCallEvents(const std::vector<ToolCallEvent>& found,
                     Choice* choice,
                     v1::ChatDelta* delta) const;

  const v1::ChatRequest request_;
  std::shared_ptr<const WorldFacts> facts_;
  ChatCall call_;
  std::vector<Choice> choices_;
};

}  // namespace deltaserve
