#pragma once

// AnswerText: the text of one answer: which tokens have some, what of it is reasoning, and where a
// stop string ends it.

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "absl/status/statusor.h"
#include "deltaserve/v1/world.pb.h"
#include "router/text/detokenizer.h"
#include "router/text/reasoning_splitter.h"
#include "router/text/stop_matcher.h"
#include "router/text/tokenizer.h"

namespace deltaserve {

struct AnswerTextOptions {
  bool skip_special_tokens = true;
  std::vector<std::string> stop_strings = {};
  bool stop_in_reasoning = false;  // stop strings match inside of reasoning too
  bool include_stop = false;       // what ended the answer is part of its text
  // Chat: reasoning is told apart by its tags, which are not part of the text. Otherwise all is
  // text, and reasoning is what stands between the tokens <think> and </think>.
  bool splits_reasoning = false;
  bool starts_in_reasoning = false;  // the prompt has opened it
  bool calls_end_reasoning = false;  // a tool call that nothing closes is content
};

// Threads: one at a time. Owner: the answer's stream. `tokenizer` must outlive it.
class AnswerText {
 public:
  // What some tokens add.
  struct Part {
    uint32_t first_index = 0;
    int num_tokens = 0;  // those after a stop string are not counted
    std::string reasoning = {};
    std::string text = {};
  };

  // `request` as sent to the world: its EOS and stop ids have no text unless include_stop is set.
  AnswerText(const Tokenizer& tokenizer,
             const v1::TokenRequest& request,
             const AnswerTextOptions& options);

  // The generated ids of a resumed answer: their text was sent before; what it left unfinished is
  // not lost. Before Add().
  Part Resume(const v1::TokenRequest& request);

  // Errors: INTERNAL where tokens are missing or come twice. Nothing after a stop string.
  absl::StatusOr<Part> Add(const v1::TokenEvent::Tokens& tokens);

  // What is held back for want of more: an unfinished character, a part of a tag or stop string.
  Part Finish();

  // The stop string that ended the text.
  std::optional<std::string> stop_string() const;

  // Tokens of the answer so far, resumed ones included: the index of the next one.
  uint32_t num_tokens() const { return next_index_; }
  // Those that stand in reasoning, its closing tag included.
  uint32_t num_reasoning_tokens() const { return num_reasoning_tokens_; }

 private:
  void AddToken(int32_t id, Part* part);
  // A call that reasoning turned out to end with is none of it.
  void SettleHeldCall();
  void AddText(const std::string& piece, Part* part);
  bool in_reasoning() const;
  bool may_stop() const { return next_index_ >= min_tokens_; }

  Detokenizer detokenizer_;
  ReasoningSplitter splitter_;
  StopMatcher matcher_;
  const AnswerTextOptions options_;
  const std::optional<int32_t> think_id_, end_think_id_;
  bool between_think_tokens_;
  const uint32_t min_tokens_;              // stop strings sleep in the text of so many tokens
  std::unordered_set<uint32_t> textless_;  // the ids that end this answer
  uint32_t next_index_ = 0;
  uint32_t num_reasoning_tokens_ = 0;
  uint32_t num_held_tokens_ = 0;  // of them, those of a call that waits
};

}  // namespace deltaserve
