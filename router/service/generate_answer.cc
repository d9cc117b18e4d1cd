#include "router/service/generate_answer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "proto/error.h"
#include "proto/grpc_stream.h"
#include "proto/params_check.h"
#include "router/service/answer_parts.h"
#include "router/text/detokenizer.h"

namespace deltaserve {
namespace {

void Append(const v1::GenerateEvent& event, AnswerEvents* events) {
  events->push_back({Serialised(event)});
}

// True where the prompt leaves the model between the tokens <think> and </think>.
bool EndsBetweenThinkTokens(const Tokenizer& tokenizer, const std::vector<int32_t>& prompt) {
  const std::optional<int32_t> think = tokenizer.TokenId("<think>");
  const std::optional<int32_t> end_think = tokenizer.TokenId("</think>");
  for (auto id = prompt.rbegin(); id != prompt.rend(); ++id) {
    if (*id == end_think) return false;
    if (*id == think) return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<std::vector<int32_t>> GenerateAnswer::PromptIds() const {
  switch (request_.prompt_case()) {
    case v1::GenerateRequest::kText:
      if (request_.text().empty()) {
        return OutOfRange("text", "1 character or more", "an empty string", "send a prompt");
      }
      return EncodeField(*facts_->text->tokenizer, request_.text(), "text");
    case v1::GenerateRequest::kTokens:
      if (request_.tokens().ids().empty()) {
        return OutOfRange("tokens", "1 id or more", "none", "send a prompt");
      }
      return ReadTokens(request_.tokens(), "tokens", facts_->model().num_tokens());
    case v1::GenerateRequest::PROMPT_NOT_SET:
      break;
  }
  return InvalidField("prompt", "absent", "there is nothing to answer", "set text or tokens");
}

absl::StatusOr<v1::TokenRequest> GenerateAnswer::Prepare(std::shared_ptr<const WorldFacts> facts,
                                                         const ResolverDefaults& defaults) {
  facts_ = std::move(facts);
  DS_RETURN_IF_ERROR(CheckOptions(options(), facts_->model().num_tokens()));
  DS_ASSIGN_OR_RETURN(prompt_, PromptIds());
  DS_ASSIGN_OR_RETURN(v1::TokenRequest made, Resolve(options(), prompt_, *facts_, defaults));
  const Tokenizer& tokenizer = *facts_->text->tokenizer;
  AnswerTextOptions text = TextOptions(options());
  text.starts_in_reasoning = EndsBetweenThinkTokens(tokenizer, prompt_);
  AnswerText first(tokenizer, made, text);
  first.Resume(made);
  texts_ = std::vector<AnswerText>(NumChoices(options()), first);
  return made;
}

void GenerateAnswer::AddPromptScores(const v1::TokenEvent::PromptScores& page,
                                     AnswerEvents* events) {
  v1::GenerateEvent event;
  *event.mutable_prompt_logprobs() = ToPromptLogprobs(page);
  Append(event, events);
}

void GenerateAnswer::Start(const v1::Started& started, AnswerEvents* events) {
  v1::GenerateEvent event;
  *event.mutable_started() = started;
  Append(event, events);
  if (request_.echo()) Echo(events);
}

void GenerateAnswer::Echo(AnswerEvents* events) const {
  v1::GenerateEvent event;
  v1::TextDelta* delta = event.mutable_delta();
  delta->set_first_index(texts_[0].num_tokens());
  if (request_.prompt_case() == v1::GenerateRequest::kText) {
    delta->set_text(request_.text());
  } else {
    Detokenizer detokenizer(*facts_->text->tokenizer, /*skip_special_tokens=*/false);
    for (const int32_t id : prompt_) delta->mutable_text()->append(detokenizer.Add(id));
    delta->mutable_text()->append(detokenizer.Finish());
  }
  Append(event, events);
}

absl::Status GenerateAnswer::Add(uint32_t choice,
                                 const v1::TokenEvent::Tokens& tokens,
                                 AnswerEvents* events) {
  DS_ASSIGN_OR_RETURN(AnswerText::Part part, texts_[choice].Add(tokens));
  v1::GenerateEvent event;
  v1::TextDelta* delta = event.mutable_delta();
  delta->set_choice(choice);
  delta->set_first_index(part.first_index);
  delta->set_text(std::move(part.text));
  SetTokens(tokens, part.num_tokens, options().return_token_ids(), delta);
  if (delta->text().empty() && !delta->has_tokens() && delta->logprobs().empty()) {
    return absl::OkStatus();
  }
  Append(event, events);
  return absl::OkStatus();
}

void GenerateAnswer::Finish(v1::Finished finished, bool counts, AnswerEvents* events) {
  AnswerText& text = texts_[finished.choice()];
  AnswerText::Part rest = text.Finish();
  if (!rest.text.empty()) {
    v1::GenerateEvent event;
    event.mutable_delta()->set_choice(finished.choice());
    event.mutable_delta()->set_first_index(rest.first_index);
    event.mutable_delta()->set_text(std::move(rest.text));
    Append(event, events);
  }
  v1::GenerateEvent event;
  CompleteFinished(text, counts, &finished);
  *event.mutable_finished() = std::move(finished);
  Append(event, events);
}

}  // namespace deltaserve
