#pragma once

// ChatTemplate: conversations as the text that a checkpoint's template makes of them, with what
// transformers does around a template (specification 7.6).

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "router/text/template/template.h"
#include "router/text/text_assets.h"

namespace deltaserve {

// What is rendered, in the names and order of Hugging Face's messages.
struct Conversation {
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();  // of objects
  nlohmann::ordered_json tools = nullptr;                             // or an array of objects
  nlohmann::ordered_json template_args = nlohmann::ordered_json::object();
  std::string template_args_field = "template_args_json";  // what errors call them
  bool add_generation_prompt = true;
  // The text ends inside of the last message, for the model to go on.
  bool continue_final_message = false;
};

// Threads: immutable after creation. Owner: ModelText.
class ChatTemplate {
 public:
  // That of chat_template.jinja, else of tokenizer_config.json's `chat_template`. Errors: NotFound
  // where there is none, InvalidArgument with line and column where it is not a template.
  static absl::StatusOr<std::unique_ptr<const ChatTemplate>> Create(const TextAssets& assets);

  // `source` in place of the checkpoint's own.
  absl::StatusOr<std::unique_ptr<const ChatTemplate>> WithSource(std::string_view source) const;
  static absl::StatusOr<std::unique_ptr<const ChatTemplate>> Parse(
      std::string_view source, nlohmann::ordered_json special_tokens);

  // `now`: what strftime_now sees. Errors: INVALID_FIELD naming "messages" where there are none,
  // where the template refuses them (in its own words) or cannot render them, or passes a bound;
  // naming template_args_field where these give what the request says itself.
  absl::StatusOr<std::string> Render(const Conversation& conversation,
                                     absl::Time now,
                                     absl::TimeZone zone) const;

  // The template over `variables` alone: no messages, no special tokens. Errors: INVALID_FIELD
  // naming "template".
  absl::StatusOr<std::string> RenderVariables(nlohmann::ordered_json variables,
                                              absl::Time now,
                                              absl::TimeZone zone) const;

 private:
  ChatTemplate(std::unique_ptr<const jinja::Template> compiled,
               nlohmann::ordered_json special_tokens)
      : compiled_(std::move(compiled)), special_tokens_(std::move(special_tokens)) {}

  const std::unique_ptr<const jinja::Template> compiled_;
  const nlohmann::ordered_json special_tokens_;  // "eos_token": "<|im_end|>", ...
};

}  // namespace deltaserve
