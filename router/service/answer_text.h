#pragma once

// AnswerText: the deltas of one answer: which tokens have text, and which index each has.

#include <cstdint>
#include <optional>
#include <unordered_set>

#include "absl/status/statusor.h"
#include "deltaserve/v1/inference.pb.h"
#include "deltaserve/v1/world.pb.h"
#include "router/text/detokenizer.h"
#include "router/text/tokenizer.h"

namespace deltaserve {

// Threads: one at a time. Owner: the answer's stream. `tokenizer` must outlive it.
class AnswerText {
 public:
  // `request` as sent to the world: its generated ids were sent before, so their text is not sent
  // again, and its EOS and stop ids have none.
  AnswerText(const Tokenizer& tokenizer,
             const v1::TokenRequest& request,
             bool skip_special_tokens,
             bool return_token_ids);

  // The delta of a step; nullopt where it would be empty. Errors: INTERNAL where tokens are missing
  // or come twice.
  absl::StatusOr<std::optional<v1::TextDelta>> Add(const v1::TokenEvent::Tokens& tokens);

  // What an unfinished character leaves at the end of the answer.
  std::optional<v1::TextDelta> Finish();

  // Tokens of the answer so far, resumed ones included: the index of the next one.
  uint32_t num_tokens() const { return next_index_; }

 private:
  Detokenizer detokenizer_;
  const bool return_token_ids_;
  std::unordered_set<uint32_t> textless_;  // the ids that end this answer
  uint32_t next_index_ = 0;
};

}  // namespace deltaserve
