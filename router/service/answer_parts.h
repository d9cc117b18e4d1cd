#pragma once

// Parts that the answers of Generate and Chat have in common. Pure; any thread.

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "deltaserve/v1/inference.pb.h"
#include "deltaserve/v1/world.pb.h"
#include "router/service/answer_text.h"
#include "router/text/tokenizer.h"

namespace deltaserve {

// What the options say of an answer's text.
AnswerTextOptions TextOptions(const v1::CallOptions& options);

// The ids of `text`. Errors: INVALID_FIELD naming `field` where it is not UTF-8.
absl::StatusOr<std::vector<int32_t>> EncodeField(const Tokenizer& tokenizer,
                                                 const std::string& text,
                                                 const std::string& field);

// Fills tokens, where they are asked for, and log-probabilities of a TextDelta or ChatDelta with
// the first `count` of `tokens`.
template <typename Delta>
void SetTokens(const v1::TokenEvent::Tokens& tokens, int count, bool with_ids, Delta* delta) {
  if (with_ids && count > 0) {
    delta->mutable_tokens()->mutable_ids()->Add(tokens.ids().begin(), tokens.ids().begin() + count);
  }
  for (int i = 0; i < std::min(count, tokens.logprobs_size()); ++i) {
    *delta->add_logprobs() = tokens.logprobs(i);
  }
}

v1::PromptLogprobs ToPromptLogprobs(const v1::TokenEvent::PromptScores& page);

// What `text` knows of the answer's end: reasoning tokens, a stop string, and where `counts` is
// true the number of tokens.
void CompleteFinished(const AnswerText& text, bool counts, v1::Finished* finished);

}  // namespace deltaserve
