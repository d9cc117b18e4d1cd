#pragma once

// Lines of deltaserve-text: what a router does with text, as JSON in and out.

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "router/text/chat_template.h"
#include "router/text/tokenizer.h"

namespace deltaserve {

// Threads: immutable after Create. Owner: main.
class TextLines {
 public:
  // `now`: what templates see, else the time of each line. Errors: those of the model's files.
  static absl::StatusOr<std::unique_ptr<TextLines>> Create(const std::string& folder,
                                                           std::optional<absl::Time> now);

  // The line that answers `line`: {"id", ...} or {"id", "error": ...}.
  std::string Answer(const std::string& line) const;

 private:
  TextLines() = default;
  absl::StatusOr<nlohmann::ordered_json> Run(const nlohmann::ordered_json& line) const;
  absl::StatusOr<nlohmann::ordered_json> Tokenize(const nlohmann::ordered_json& text) const;
  absl::StatusOr<nlohmann::ordered_json> Detokenize(const nlohmann::ordered_json& line) const;
  absl::StatusOr<nlohmann::ordered_json> Render(const nlohmann::ordered_json& asked) const;
  absl::StatusOr<nlohmann::ordered_json> ParseAnswer(const nlohmann::ordered_json& line) const;

  std::unique_ptr<const Tokenizer> tokenizer_;
  absl::StatusOr<std::unique_ptr<const ChatTemplate>> chat_template_ = absl::UnknownError("");
  std::optional<absl::Time> now_;
};

}  // namespace deltaserve
