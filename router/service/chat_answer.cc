#include "router/service/chat_answer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kernels/base/status_macros.h"
#include "proto/error.h"
#include "proto/grpc_stream.h"
#include "router/service/answer_parts.h"
#include "router/text/reasoning_splitter.h"
#include "router/text/tags.h"

namespace deltaserve {
namespace {

// What a spent thinking budget appends: the end of reasoning, in the form of Qwen's template.
constexpr char kForcedExit[] = "\n</think>\n\n";

void Append(const v1::ChatEvent& event, AnswerEvents* events) {
  events->push_back({Serialised(event)});
}

bool IsEmpty(const v1::ChatDelta& delta) {
  return delta.content().empty() && delta.reasoning().empty() && delta.tool_calls().empty() &&
         !delta.has_tokens() && delta.logprobs().empty();
}

}  // namespace

absl::StatusOr<std::string> RenderChat(const ChatCall& call, const WorldFacts& facts) {
  const auto& chat_template = facts.text->chat_template;
  if (!chat_template.ok()) {
    return UnsupportedField(
        "messages", "a conversation",
        absl::StrCat("the model's chat template cannot be used: ", chat_template.status().message(),
                     "; render the prompt yourself and call Generate"));
  }
  return (*chat_template)->Render(call.conversation, absl::Now(), absl::LocalTimeZone());
}

absl::StatusOr<v1::TokenRequest> ChatAnswer::Prepare(std::shared_ptr<const WorldFacts> facts,
                                                     const ResolverDefaults& defaults) {
  facts_ = std::move(facts);
  DS_RETURN_IF_ERROR(CheckOptions(options(), facts_->model().num_tokens()));
  DS_ASSIGN_OR_RETURN(call_, ReadChatRequest(request_));
  DS_ASSIGN_OR_RETURN(const std::string rendered, RenderChat(call_, *facts_));
  const Tokenizer& tokenizer = *facts_->text->tokenizer;
  DS_ASSIGN_OR_RETURN(const std::vector<int32_t> prompt,
                      EncodeField(tokenizer, rendered, "messages"));
  DS_ASSIGN_OR_RETURN(v1::TokenRequest made, Resolve(options(), prompt, *facts_, defaults));

  AnswerTextOptions text = TextOptions(options());
  text.splits_reasoning = true;
  text.starts_in_reasoning = EndsInsideReasoning(rendered);
  text.calls_end_reasoning = call_.parses_tool_calls;
  DS_ASSIGN_OR_RETURN(const std::optional<v1::ForcedExit> forced_exit,
                      ThinkingBudget(text.starts_in_reasoning));
  if (forced_exit.has_value()) *made.mutable_forced_exit() = *forced_exit;

  Choice first{.text = AnswerText(tokenizer, made, text)};
  if (call_.parses_tool_calls) first.parser.emplace(call_.tools);
  v1::ChatDelta sent_before;
  AddText(first.text.Resume(made).text, &first, &sent_before);
  choices_ = std::vector<Choice>(NumChoices(options()), first);
  for (size_t i = 0; i < choices_.size(); ++i) {
    choices_[i].call_id_prefix =
        absl::StrCat("call-", defaults.request_id, "-", made.sample_index() + i, "-");
  }
  return made;
}

absl::StatusOr<std::optional<v1::ForcedExit>> ChatAnswer::ThinkingBudget(
    bool starts_in_reasoning) const {
  if (!request_.has_thinking_budget()) return std::optional<v1::ForcedExit>();
  const std::string value = absl::StrCat(request_.thinking_budget());
  const Tokenizer& tokenizer = *facts_->text->tokenizer;
  const std::optional<int32_t> end_think = tokenizer.TokenId("</think>");
  if (!end_think.has_value()) {
    return UnsupportedField("thinking_budget", value,
                            "the model has no </think> token; leave it out");
  }
  if (!starts_in_reasoning) {
    return InvalidField("thinking_budget", value, "the prompt does not open a block of reasoning",
                        "leave it out, or turn thinking on in template_args_json");
  }
  v1::ForcedExit exit;
  exit.add_watch_token_ids(static_cast<uint32_t>(*end_think));
  // A call ends reasoning that nothing closes. A tag forced into it would make it a thought and
  // leave the rest of it as content.
  const std::optional<int32_t> call = tokenizer.TokenId(std::string(kToolCallTag));
  if (call_.parses_tool_calls && call.has_value()) {
    exit.add_watch_token_ids(static_cast<uint32_t>(*call));
  }
  exit.set_after_tokens(request_.thinking_budget());
  DS_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, tokenizer.Encode(kForcedExit));
  for (const int32_t id : ids) exit.add_force_token_ids(static_cast<uint32_t>(id));
  return std::optional<v1::ForcedExit>(std::move(exit));
}

void ChatAnswer::AddPromptScores(const v1::TokenEvent::PromptScores& page, AnswerEvents* events) {
  v1::ChatEvent event;
  *event.mutable_prompt_logprobs() = ToPromptLogprobs(page);
  Append(event, events);
}

void ChatAnswer::Start(const v1::Started& started, AnswerEvents* events) {
  v1::ChatEvent event;
  *event.mutable_started() = started;
  Append(event, events);
}

void ChatAnswer::AddCallEvents(const std::vector<ToolCallEvent>& found,
                               Choice* choice,
                               v1::ChatDelta* delta) const {
  for (const ToolCallEvent& event : found) {
    if (choice->is_one_call_over) return;
    const auto index = static_cast<uint32_t>(event.index);
    switch (event.kind) {
      case ToolCallEvent::Kind::kContent:
        delta->mutable_content()->append(event.text);
        break;
      case ToolCallEvent::Kind::kCallStart: {
        v1::ToolCallDelta* call = delta->add_tool_calls();
        call->set_index(index);
        call->set_id(absl::StrCat(choice->call_id_prefix, index));
        call->set_name(event.text);
        break;
      }
      case ToolCallEvent::Kind::kArguments: {
        v1::ToolCallDelta* last =
            delta->tool_calls().empty() ? nullptr : &*delta->mutable_tool_calls()->rbegin();
        if (last == nullptr || last->index() != index) {
          last = delta->add_tool_calls();
          last->set_index(index);
        }
        last->mutable_arguments_fragment()->append(event.text);
        break;
      }
      case ToolCallEvent::Kind::kCallEnd:
        choice->is_one_call_over = !call_.parallel_tool_calls;
        break;
    }
  }
}

void ChatAnswer::AddText(const std::string& text, Choice* choice, v1::ChatDelta* delta) const {
  if (!choice->parser.has_value()) {
    delta->mutable_content()->append(text);
    return;
  }
  AddCallEvents(choice->parser->Add(text), choice, delta);
}

absl::Status ChatAnswer::Add(uint32_t choice,
                             const v1::TokenEvent::Tokens& tokens,
                             AnswerEvents* events) {
  Choice& to = choices_[choice];
  v1::ChatEvent event;
  v1::ChatDelta* delta = event.mutable_delta();
  delta->set_choice(choice);
  delta->set_first_index(to.text.num_tokens());
  // One by one, so that where the answer ends does not depend on how many a step made.
  int num_tokens = 0;
  v1::TokenEvent::Tokens one;
  for (int i = 0; i < tokens.ids_size() && !to.is_over(); ++i) {
    one.clear_ids();
    one.add_ids(tokens.ids(i));
    one.set_first_index(tokens.first_index() + static_cast<uint32_t>(i));
    DS_ASSIGN_OR_RETURN(const AnswerText::Part part, to.text.Add(one));
    num_tokens += part.num_tokens;
    delta->mutable_reasoning()->append(part.reasoning);
    AddText(part.text, &to, delta);
  }
  SetTokens(tokens, num_tokens, options().return_token_ids(), delta);
  if (!IsEmpty(*delta)) Append(event, events);
  return absl::OkStatus();
}

void ChatAnswer::Finish(v1::Finished finished, bool counts, AnswerEvents* events) {
  Choice& choice = choices_[finished.choice()];
  AnswerText::Part rest = choice.text.Finish();
  v1::ChatEvent event;
  v1::ChatDelta* delta = event.mutable_delta();
  delta->set_choice(finished.choice());
  delta->set_first_index(rest.first_index);
  delta->set_reasoning(std::move(rest.reasoning));
  AddText(rest.text, &choice, delta);
  if (choice.parser.has_value()) AddCallEvents(choice.parser->Finish(), &choice, delta);
  if (!IsEmpty(*delta)) Append(event, events);

  CompleteFinished(choice.text, counts, &finished);
  if (finished.reason() == v1::FINISH_REASON_STOP && choice.parser.has_value() &&
      choice.parser->num_calls() > 0 && !choice.parser->broke_off()) {
    finished.set_reason(v1::FINISH_REASON_TOOL_CALLS);
  }
  v1::ChatEvent last;
  *last.mutable_finished() = std::move(finished);
  Append(last, events);
}

}  // namespace deltaserve
