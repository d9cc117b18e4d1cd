#include "worker/engine/logit_rules.h"

#include <algorithm>
#include <bit>

namespace deltaserve {
namespace {

void Clear(int32_t id, std::span<uint32_t> mask) {
  mask[static_cast<size_t>(id) / 32] &= ~(uint32_t{1} << (id % 32));
}

}  // namespace

LogitHistory::LogitHistory(LogitRules rules, uint32_t num_prompt)
    : rules_(std::move(rules)), prompt_left_(num_prompt) {}

void LogitHistory::Add(int32_t id) {
  int32_t& count = counts_[id];
  if (prompt_left_ > 0) {
    --prompt_left_;
    return;
  }
  ++count;
  generated_.push_back(id);
}

void LogitHistory::AppendEntries(int32_t row, PenaltyEntries* entries) const {
  const auto append = [&](int32_t id, bool is_seen, int32_t count, float bias) {
    entries->row.push_back(row);
    entries->id.push_back(id);
    entries->seen.push_back(is_seen ? 1 : 0);
    entries->count.push_back(count);
    entries->bias.push_back(bias);
  };
  for (const auto& [id, bias] : rules_.bias) {
    const auto found = counts_.find(id);
    const bool is_seen = found != counts_.end();
    append(id, is_seen, is_seen ? found->second : 0, bias);
  }
  if (!rules_.penalizes()) return;
  const auto has_bias = [&](int32_t id) {
    const auto at =
        std::lower_bound(rules_.bias.begin(), rules_.bias.end(), id,
                         [](const auto& entry, int32_t key) { return entry.first < key; });
    return at != rules_.bias.end() && at->first == id;
  };
  for (const auto& [id, count] : counts_) {
    if (rules_.repetition_penalty == 1 && count == 0) continue;
    if (!has_bias(id)) append(id, true, count, 0);
  }
}

bool LogitHistory::looks_back() const {
  return rules_.penalizes() || generated_.size() < rules_.min_tokens ||
         std::any_of(rules_.banned.begin(), rules_.banned.end(),
                     [](const std::vector<int32_t>& sequence) { return sequence.size() > 1; });
}

bool LogitHistory::masks() const {
  return rules_.allows_some || !rules_.banned.empty() || generated_.size() < rules_.min_tokens;
}

void LogitHistory::Ban(std::span<uint32_t> mask) const {
  if (generated_.size() < rules_.min_tokens) {
    for (const int32_t id : rules_.ends) Clear(id, mask);
  }
  for (const std::vector<int32_t>& sequence : rules_.banned) {
    const size_t before = sequence.size() - 1;
    if (before > generated_.size()) continue;
    if (std::equal(sequence.begin(), sequence.end() - 1,
                   generated_.end() - static_cast<ptrdiff_t>(before))) {
      Clear(sequence.back(), mask);
    }
  }
}

void LogitHistory::FillMask(int64_t num_tokens, std::span<uint32_t> mask) const {
  std::fill(mask.begin(), mask.end(), rules_.allows_some ? 0U : ~0U);
  for (const int32_t id : rules_.allowed) {
    mask[static_cast<size_t>(id) / 32] |= uint32_t{1} << (id % 32);
  }
  // Ids without a token do not count as left.
  for (int64_t id = num_tokens; id < 32 * static_cast<int64_t>(mask.size()); ++id) {
    Clear(static_cast<int32_t>(id), mask);
  }
  const std::vector<uint32_t> before(mask.begin(), mask.end());
  Ban(mask);
  const bool any = std::any_of(mask.begin(), mask.end(), [](uint32_t word) { return word != 0; });
  if (!any) std::copy(before.begin(), before.end(), mask.begin());
}

}  // namespace deltaserve
