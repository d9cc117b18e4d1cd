#pragma once

// LogitRules: what a request changes of its logits before a token is chosen. LogitHistory: the
// rules and the tokens that they look at, as one slot has them.

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace deltaserve {

struct LogitRules {
  float presence_penalty = 0;                        // generated tokens
  float frequency_penalty = 0;                       // generated tokens
  float repetition_penalty = 1;                      // prompt and generated tokens
  std::vector<std::pair<int32_t, float>> bias = {};  // ids ascend
  bool allows_some = false;                          // only `allowed` may be chosen
  std::vector<int32_t> allowed = {};
  std::vector<std::vector<int32_t>> banned = {};  // sequences that the answer must not hold
  // `ends` may not be chosen before so many tokens are generated.
  uint32_t min_tokens = 0;
  std::vector<int32_t> ends = {};

  bool operator==(const LogitRules&) const = default;
  bool empty() const { return *this == LogitRules(); }
  bool penalizes() const {
    return presence_penalty != 0 || frequency_penalty != 0 || repetition_penalty != 1;
  }
};

// The entries of rows for Ops::Penalize.
struct PenaltyEntries {
  std::vector<int32_t> row, id, seen, count;
  std::vector<float> bias;
};

// Threads: one at a time. Owner: Slot.
class LogitHistory {
 public:
  // `num_prompt`: how many of the tokens to come are the prompt; the others are the answer.
  LogitHistory(LogitRules rules, uint32_t num_prompt);

  void Add(int32_t id);

  const LogitRules& rules() const { return rules_; }
  bool penalizes() const { return rules_.penalizes() || !rules_.bias.empty(); }
  void AppendEntries(int32_t row, PenaltyEntries* entries) const;

  // Whether what they do to the next token depends on the answer's last ones.
  bool looks_back() const;

  bool masks() const;
  // Bit id % 32 of word id / 32 says whether `id` may be the next token. Where bans would leave no
  // id below `num_tokens` they do not hold for this token: a row of -inf has no token.
  void FillMask(int64_t num_tokens, std::span<uint32_t> mask) const;

 private:
  void Ban(std::span<uint32_t> mask) const;

  LogitRules rules_;
  int64_t prompt_left_;
  std::vector<int32_t> generated_;
  absl::flat_hash_map<int32_t, int32_t> counts_;  // in the answer; 0 for ids of the prompt alone
};

}  // namespace deltaserve
