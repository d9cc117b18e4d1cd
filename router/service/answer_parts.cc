#include "router/service/answer_parts.h"

#include "absl/strings/str_cat.h"
#include "proto/error.h"

namespace deltaserve {

AnswerTextOptions TextOptions(const v1::CallOptions& options) {
  return {
      .skip_special_tokens = !options.has_skip_special_tokens() || options.skip_special_tokens(),
      .stop_strings = {options.stop_strings().begin(), options.stop_strings().end()},
      .stop_in_reasoning = options.stop_in_reasoning(),
      .include_stop = options.include_stop()};
}

absl::StatusOr<std::vector<int32_t>> EncodeField(const Tokenizer& tokenizer,
                                                 const std::string& text,
                                                 const std::string& field) {
  absl::StatusOr<std::vector<int32_t>> ids = tokenizer.Encode(text);
  if (ids.ok()) return ids;
  return InvalidField(field, absl::StrCat(text.size(), " bytes"),
                      std::string(ids.status().message()), "send text as UTF-8");
}

v1::PromptLogprobs ToPromptLogprobs(const v1::TokenEvent::PromptScores& page) {
  v1::PromptLogprobs scores;
  scores.set_first_position(page.first_position());
  *scores.mutable_tokens() = page.tokens();
  return scores;
}

void CompleteFinished(const AnswerText& text, bool counts, v1::Finished* finished) {
  v1::Usage* usage = finished->mutable_usage();
  usage->set_reasoning_tokens(text.num_reasoning_tokens());
  if (counts) usage->set_completion_tokens(text.num_tokens());
  if (const auto stop_string = text.stop_string(); stop_string.has_value()) {
    finished->set_reason(v1::FINISH_REASON_STOP);
    finished->mutable_match()->set_stop_string(*stop_string);
  }
}

}  // namespace deltaserve
