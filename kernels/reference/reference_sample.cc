// Sampling and log-probabilities.

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/random.h"
#include "kernels/reference/reference_ops.h"

namespace deltaserve::reference {
namespace {

struct Entry {
  float logit;
  int32_t id;
};

// Real ids of a row that have a number, most likely first, ties to the lowest id.
std::vector<Entry> SortedIds(const float* logits, int64_t num_tokens) {
  std::vector<Entry> entries;
  for (int32_t id = 0; id < num_tokens; ++id) {
    if (!std::isnan(logits[id])) entries.push_back({logits[id], id});
  }
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.logit > b.logit; });
  return entries;
}

// The value that is maximised: the logit itself (greedy) or its scaled and noisy form.
float ValueOf(const SampleParams& p, int64_t row, float logit, int32_t id) {
  const float temperature = p.temperature.as<float>()[row];
  if (temperature == 0.0f) return logit;
  return logit / temperature + Gumbel(p.seed.as<uint64_t>()[row],
                                      p.sample_index.as<uint32_t>()[row],
                                      p.token_index.as<uint32_t>()[row], static_cast<uint32_t>(id));
}

// p = softmax(logits / temperature) of sorted entries.
std::vector<double> Softmax(const std::vector<Entry>& entries, double temperature) {
  std::vector<double> p;
  double total = 0;
  for (const Entry& e : entries) {
    total += p.emplace_back(std::exp(
        (static_cast<double>(e.logit) - static_cast<double>(entries[0].logit)) / temperature));
  }
  for (double& x : p) x /= total;
  return p;
}

// What top_k, then top_p, then min_p leave of sorted entries.
void ApplyFilters(const SampleParams& params, int64_t row, std::vector<Entry>& entries) {
  const double temperature = static_cast<double>(params.temperature.as<float>()[row]);
  const int32_t top_k = params.top_k.as<int32_t>()[row];
  if (top_k > 0 && static_cast<size_t>(top_k) < entries.size()) {
    entries.resize(static_cast<size_t>(top_k));
  }
  const double top_p = static_cast<double>(params.top_p.as<float>()[row]);
  if (top_p < 1) {
    const auto p = Softmax(entries, temperature);
    size_t kept = 1;
    double before = p[0];
    while (kept < p.size() && before < top_p) before += p[kept++];
    entries.resize(kept);
  }
  const double min_p = static_cast<double>(params.min_p.as<float>()[row]);
  if (min_p > 0) {
    const auto p = Softmax(entries, temperature);
    size_t kept = 1;
    while (kept < p.size() && p[kept] >= min_p * p[0]) ++kept;
    entries.resize(kept);
  }
}

}  // namespace

void ReferenceOps::SampleLocal(const SampleLocalArgs& args) {
  const int64_t width = args.logits.dim(1);
  for (int64_t r = 0; r < args.logits.dim(0); ++r) {
    float best = -std::numeric_limits<float>::infinity();
    int32_t best_id = std::numeric_limits<int32_t>::max();
    for (int64_t i = 0; i < width && args.first_id + i < args.num_tokens; ++i) {
      const auto id = static_cast<int32_t>(args.first_id + i);
      const float value = ValueOf(*args.params, r, args.logits.as<float>()[r * width + i], id);
      if (value > best || (value == best && id < best_id)) {
        best = value;
        best_id = id;
      }
    }
    args.value.as<float>()[r] = best;
    args.id.as<int32_t>()[r] = best_id;
  }
}

void ReferenceOps::Sample(const SampleArgs& args, Arena& /*arena*/) {
  for (int64_t r = 0; r < args.logits.dim(0); ++r) {
    auto entries = SortedIds(args.logits.as<float>() + r * args.logits.dim(1), args.num_tokens);
    if (args.params->temperature.as<float>()[r] > 0 && !entries.empty()) {
      ApplyFilters(*args.params, r, entries);
    }
    int32_t best_id = std::numeric_limits<int32_t>::max();
    float best = -std::numeric_limits<float>::infinity();
    for (const Entry& e : entries) {
      const float value = ValueOf(*args.params, r, e.logit, e.id);
      if (value > best || (value == best && e.id < best_id)) {
        best = value;
        best_id = e.id;
      }
    }
    args.id.as<int32_t>()[r] = best_id;
  }
}

void ReferenceOps::Penalize(const PenalizeArgs& args) {
  for (int64_t i = 0; i < args.id.numel(); ++i) {
    const int32_t row = args.row.as<int32_t>()[i];
    float& x = args.logits.as<float>()[row * args.logits.dim(1) + args.id.as<int32_t>()[i]];
    x += args.bias.as<float>()[i];
    if (args.seen.as<int32_t>()[i] != 0) {
      const float repetition = args.repetition.as<float>()[row];
      x = x > 0 ? x / repetition : x * repetition;
    }
    const int32_t count = args.count.as<int32_t>()[i];
    x -= args.frequency.as<float>()[row] * static_cast<float>(count) +
         (count > 0 ? args.presence.as<float>()[row] : 0.0f);
  }
}

void ReferenceOps::MaskLogits(const MaskLogitsArgs& args) {
  const int64_t words = args.mask.dim(1);
  for (int64_t i = 0; i < args.row.numel(); ++i) {
    float* logits = args.logits.as<float>() + args.row.as<int32_t>()[i] * args.logits.dim(1);
    for (int64_t id = 0; id < std::min(args.logits.dim(1), 32 * words); ++id) {
      const uint32_t word = args.mask.as<uint32_t>()[i * words + id / 32];
      if ((word >> (id % 32) & 1) == 0) logits[id] = -std::numeric_limits<float>::infinity();
    }
  }
}

void ReferenceOps::LogProbs(const LogProbsArgs& args, Arena& /*arena*/) {
  const int64_t num_top = args.top_id.dim(1);
  for (int64_t r = 0; r < args.logits.dim(0); ++r) {
    const float* logits = args.logits.as<float>() + r * args.logits.dim(1);
    const auto entries = SortedIds(logits, args.num_tokens);
    const double max = static_cast<double>(entries[0].logit);
    double sum = 0;
    for (const Entry& e : entries) sum += std::exp(static_cast<double>(e.logit) - max);
    const double log_sum = max + std::log(sum);
    const float own = logits[args.id.as<int32_t>()[r]];
    args.logprob.as<float>()[r] = static_cast<float>(static_cast<double>(own) - log_sum);
    args.rank.as<int32_t>()[r] =
        1 + static_cast<int32_t>(std::count_if(entries.begin(), entries.end(),
                                               [&](const Entry& e) { return e.logit > own; }));
    for (int64_t j = 0; j < num_top; ++j) {
      const Entry& e = entries[static_cast<size_t>(j)];
      args.top_id.as<int32_t>()[r * num_top + j] = e.id;
      args.top_logprob.as<float>()[r * num_top + j] =
          static_cast<float>(static_cast<double>(e.logit) - log_sum);
    }
    const int32_t* begin = args.named_begin.as<int32_t>() + r;
    for (int32_t j = begin[0]; j < begin[1]; ++j) {
      const float named = logits[args.named_id.as<int32_t>()[j]];
      args.named_logprob.as<float>()[j] = static_cast<float>(static_cast<double>(named) - log_sum);
    }
  }
}

void ReferenceOps::StoreSampled(const StoreSampledArgs& args) {
  for (int64_t r = 0; r < args.id.numel(); ++r) {
    int32_t& id = args.id.as<int32_t>()[r];
    if (args.pairs.numel() > 0 && r < args.pairs.dim(2)) {
      id = -1;
      float best = -std::numeric_limits<float>::infinity();
      for (int64_t rank = 0; rank < args.pairs.dim(0); ++rank) {
        const TensorView pair = args.pairs.Row(rank);
        const auto value = std::bit_cast<float>(pair.Row(0).as<int32_t>()[r]);
        if (value <= best || std::isnan(value)) continue;
        best = value;
        id = pair.Row(1).as<int32_t>()[r];
      }
    }
    const int32_t forced = args.forced.as<int32_t>()[r];
    if (forced >= 0) id = forced;
    args.slot_last_token.as<int32_t>()[args.slot.as<int32_t>()[r]] = id;
  }
}

}  // namespace deltaserve::reference
