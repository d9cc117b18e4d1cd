#include "router/service/answer_text.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/error.h"

namespace deltaserve {

AnswerText::AnswerText(const Tokenizer& tokenizer,
                       const v1::TokenRequest& request,
                       bool skip_special_tokens,
                       bool return_token_ids)
    : detokenizer_(tokenizer, skip_special_tokens),
      return_token_ids_(return_token_ids),
      textless_(request.stop().stop_token_ids().begin(), request.stop().stop_token_ids().end()),
      next_index_(static_cast<uint32_t>(request.generated_ids_size())) {
  if (!request.stop().ignore_eos()) {
    textless_.insert(request.eos_token_ids().begin(), request.eos_token_ids().end());
  }
  // Bytes of a character that the first half of the answer left unfinished are not lost.
  for (const uint32_t id : request.generated_ids()) detokenizer_.Add(static_cast<int32_t>(id));
}

absl::StatusOr<std::optional<v1::TextDelta>> AnswerText::Add(const v1::TokenEvent::Tokens& tokens) {
  if (tokens.first_index() != next_index_) {
    v1::ErrorDetail detail;
    detail.set_code(v1::ERROR_CODE_INTERNAL);
    return MakeError(std::move(detail), absl::StrCat("the world sent token ", tokens.first_index(),
                                                     " where token ", next_index_, " was due"));
  }
  v1::TextDelta delta;
  delta.set_first_index(next_index_);
  for (const uint32_t id : tokens.ids()) {
    if (!textless_.contains(id)) {
      delta.mutable_text()->append(detokenizer_.Add(static_cast<int32_t>(id)));
    }
  }
  next_index_ += static_cast<uint32_t>(tokens.ids_size());
  if (return_token_ids_) *delta.mutable_tokens()->mutable_ids() = tokens.ids();
  *delta.mutable_logprobs() = tokens.logprobs();
  const bool empty = delta.text().empty() && !delta.has_tokens() && delta.logprobs().empty();
  if (empty) return std::optional<v1::TextDelta>();
  return std::optional<v1::TextDelta>(std::move(delta));
}

std::optional<v1::TextDelta> AnswerText::Finish() {
  std::string text = detokenizer_.Finish();
  if (text.empty()) return std::nullopt;
  v1::TextDelta delta;
  delta.set_first_index(next_index_);
  delta.set_text(std::move(text));
  return delta;
}

}  // namespace deltaserve
