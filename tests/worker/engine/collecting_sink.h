#pragma once

// CollectingSink: keeps what a request received and checks the order in which it came.

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "worker/engine/request.h"

namespace deltaserve {

// Any thread. Out of order, doubled or late calls are failed checks.
class CollectingSink final : public RequestSink {
 public:
  struct Received {
    bool admitted = false;
    std::vector<int32_t> tokens;
    std::vector<TokenLogProb> logprobs;
    std::map<int64_t, std::vector<float>> logits;
    std::vector<std::vector<TokenLogProb>> prompt_pages;
    std::optional<Ended> ended;
    std::optional<absl::Status> error;

    // Of the prompt's tokens from its second on.
    std::vector<TokenLogProb> prompt_scores() const;
    bool over() const { return ended.has_value() || error.has_value(); }
  };

  // `first_index`: how many tokens a resumed request brings.
  explicit CollectingSink(uint32_t first_index = 0) : next_index_(first_index) {}

  void OnAdmitted() override;
  void OnLogits(int64_t position, std::span<const float> logits) override;
  void OnPromptScores(int64_t first_position, std::span<const TokenLogProb> scores) override;
  void OnTokens(uint32_t first_index,
                std::span<const int32_t> ids,
                std::span<const TokenLogProb> logprobs) override;
  void OnEnded(const Ended& ended) override;
  void OnError(const absl::Status& status) override;

  // Blocks until the request is over; a minute is a failed check.
  Received Wait() const;
  // Blocks until there are `count` tokens or the request is over.
  Received WaitForTokens(size_t count) const;
  Received Now() const;

 private:
  bool Over() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return received_.over(); }

  mutable absl::Mutex mutex_;
  Received received_ ABSL_GUARDED_BY(mutex_);
  uint32_t next_index_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace deltaserve
