#include "tests/worker/engine/collecting_sink.h"

#include "kernels/base/check.h"

namespace deltaserve {
namespace {

constexpr absl::Duration kPatience = absl::Minutes(1);

}  // namespace

std::vector<TokenLogProb> CollectingSink::Received::prompt_scores() const {
  std::vector<TokenLogProb> scores;
  for (const auto& page : prompt_pages) scores.insert(scores.end(), page.begin(), page.end());
  return scores;
}

void CollectingSink::OnAdmitted() {
  const absl::MutexLock lock(&mutex_);
  DS_CHECK(!received_.admitted && !Over()) << "admitted twice or too late";
  received_.admitted = true;
}

void CollectingSink::OnLogits(int64_t position, std::span<const float> logits) {
  const absl::MutexLock lock(&mutex_);
  DS_CHECK(received_.admitted && !Over() && received_.tokens.empty()) << "logits out of order";
  DS_CHECK(received_.logits.empty() || received_.logits.rbegin()->first < position) << position;
  received_.logits[position].assign(logits.begin(), logits.end());
}

void CollectingSink::OnPromptScores(int64_t first_position, std::span<const TokenLogProb> scores) {
  const absl::MutexLock lock(&mutex_);
  DS_CHECK(received_.admitted && !Over() && received_.tokens.empty()) << "scores out of order";
  DS_CHECK_EQ(first_position, static_cast<int64_t>(received_.prompt_scores().size()) + 1);
  DS_CHECK(!scores.empty()) << "an empty page";
  received_.prompt_pages.emplace_back(scores.begin(), scores.end());
}

void CollectingSink::OnTokens(uint32_t first_index,
                              std::span<const int32_t> ids,
                              std::span<const TokenLogProb> logprobs) {
  const absl::MutexLock lock(&mutex_);
  DS_CHECK(received_.admitted && !Over()) << "tokens out of order";
  DS_CHECK_EQ(first_index, next_index_);
  DS_CHECK(!ids.empty() && (logprobs.empty() || logprobs.size() == ids.size()));
  next_index_ += static_cast<uint32_t>(ids.size());
  received_.tokens.insert(received_.tokens.end(), ids.begin(), ids.end());
  received_.logprobs.insert(received_.logprobs.end(), logprobs.begin(), logprobs.end());
}

void CollectingSink::OnEnded(const Ended& ended) {
  const absl::MutexLock lock(&mutex_);
  DS_CHECK(!Over()) << "ended twice";
  received_.ended = ended;
}

void CollectingSink::OnError(const absl::Status& status) {
  const absl::MutexLock lock(&mutex_);
  DS_CHECK(!Over()) << "ended twice";
  received_.error = status;
}

CollectingSink::Received CollectingSink::Wait() const {
  const absl::MutexLock lock(&mutex_);
  DS_CHECK(mutex_.AwaitWithTimeout(absl::Condition(this, &CollectingSink::Over), kPatience))
      << received_.tokens.size() << " tokens, no end";
  return received_;
}

CollectingSink::Received CollectingSink::WaitForTokens(size_t count) const {
  const absl::MutexLock lock(&mutex_);
  const auto enough = [this, count]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return Over() || received_.tokens.size() >= count;
  };
  DS_CHECK(mutex_.AwaitWithTimeout(absl::Condition(&enough), kPatience))
      << received_.tokens.size() << " of " << count << " tokens";
  return received_;
}

CollectingSink::Received CollectingSink::Now() const {
  const absl::MutexLock lock(&mutex_);
  return received_;
}

}  // namespace deltaserve
