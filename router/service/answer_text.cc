#include "router/service/answer_text.h"

#include "absl/strings/str_cat.h"
#include "proto/error.h"

namespace deltaserve {

AnswerText::AnswerText(const Tokenizer& tokenizer,
                       const v1::TokenRequest& request,
                       const AnswerTextOptions& options)
    : detokenizer_(tokenizer, options.skip_special_tokens),
      splitter_(
          options.starts_in_reasoning,
          ReasoningNewlines::kTrim,
          options.calls_end_reasoning ? CallsInReasoning::kEndIt : CallsInReasoning::kAreThoughts),
      matcher_(options.stop_strings, options.include_stop),
      options_(options),
      think_id_(tokenizer.TokenId("<think>")),
      end_think_id_(tokenizer.TokenId("</think>")),
      between_think_tokens_(options.starts_in_reasoning),
      min_tokens_(request.stop().min_tokens()) {
  if (!options.include_stop) {
    textless_.insert(request.stop().stop_token_ids().begin(),
                     request.stop().stop_token_ids().end());
    if (!request.stop().ignore_eos()) {
      textless_.insert(request.eos_token_ids().begin(), request.eos_token_ids().end());
    }
  }
}

AnswerText::Part AnswerText::Resume(const v1::TokenRequest& request) {
  Part sent_before;
  for (const uint32_t id : request.generated_ids()) {
    AddToken(static_cast<int32_t>(id), &sent_before);
    if (matcher_.matched().has_value()) break;
  }
  return sent_before;
}

bool AnswerText::in_reasoning() const {
  return options_.splits_reasoning ? splitter_.in_reasoning() : between_think_tokens_;
}

void AnswerText::AddText(const std::string& piece, Part* part) {
  if (!options_.splits_reasoning) {
    part->text +=
        matcher_.Add(piece, may_stop() && (options_.stop_in_reasoning || !between_think_tokens_))
            .text;
    return;
  }
  if (options_.stop_in_reasoning) {
    ReasoningSplitter::Result split = splitter_.Add(matcher_.Add(piece, may_stop()).text);
    part->reasoning += split.reasoning;
    part->text += split.content;
    return;
  }
  const ReasoningSplitter::Result split = splitter_.Add(piece);
  part->reasoning += split.reasoning;
  part->text += matcher_.Add(split.content, may_stop()).text;
}

void AnswerText::AddToken(int32_t id, Part* part) {
  if (in_reasoning()) ++num_reasoning_tokens_;
  if (id == think_id_) between_think_tokens_ = true;
  if (!textless_.contains(static_cast<uint32_t>(id))) AddText(detokenizer_.Add(id), part);
  if (id == end_think_id_) between_think_tokens_ = false;
  SettleHeldCall();
  ++next_index_;
  ++part->num_tokens;
}

void AnswerText::SettleHeldCall() {
  if (splitter_.ended_by_call()) num_reasoning_tokens_ -= num_held_tokens_;
  num_held_tokens_ = splitter_.holds_call() ? num_held_tokens_ + 1 : 0;
}

absl::StatusOr<AnswerText::Part> AnswerText::Add(const v1::TokenEvent::Tokens& tokens) {
  Part part{.first_index = next_index_};
  if (matcher_.matched().has_value()) return part;
  if (tokens.first_index() != next_index_) {
    v1::ErrorDetail detail;
    detail.set_code(v1::ERROR_CODE_INTERNAL);
    return MakeError(std::move(detail), absl::StrCat("the world sent token ", tokens.first_index(),
                                                     " where token ", next_index_, " was due"));
  }
  for (const uint32_t id : tokens.ids()) {
    AddToken(static_cast<int32_t>(id), &part);
    if (matcher_.matched().has_value()) break;
  }
  return part;
}

AnswerText::Part AnswerText::Finish() {
  Part part{.first_index = next_index_};
  if (!matcher_.matched().has_value()) AddText(detokenizer_.Finish(), &part);
  if (!options_.splits_reasoning) {
    part.text += matcher_.Finish();
    return part;
  }
  // In the order of the stages: each lets go of what it held, into the next.
  if (options_.stop_in_reasoning) {
    const ReasoningSplitter::Result split = splitter_.Add(matcher_.Finish());
    part.reasoning += split.reasoning;
    part.text += split.content;
  }
  const ReasoningSplitter::Result rest = splitter_.Finish();
  SettleHeldCall();
  part.reasoning += rest.reasoning;
  if (options_.stop_in_reasoning) {
    part.text += rest.content;
  } else {
    part.text += matcher_.Add(rest.content).text;
    part.text += matcher_.Finish();
  }
  return part;
}

std::optional<std::string> AnswerText::stop_string() const {
  if (!matcher_.matched().has_value()) return std::nullopt;
  return options_.stop_strings[*matcher_.matched()];
}

}  // namespace deltaserve
