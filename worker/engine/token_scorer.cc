#include "worker/engine/token_scorer.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/base/status_macros.h"
#include "kernels/ops.h"
#include "worker/engine/engine_options.h"

namespace deltaserve {
namespace {

// What LogProbs gave, on the host.
struct HostScores {
  int64_t num_top = 0;
  std::vector<int32_t> id, rank, top_id, named_begin, named_id;
  std::vector<float> logprob, top_logprob, named_logprob;
};

TokenLogProb Assemble(const HostScores& scores, size_t row, const TokenScorer::Wanted& wanted) {
  TokenLogProb out{.id = scores.id[row], .logprob = scores.logprob[row], .rank = scores.rank[row]};
  for (int64_t i = 0; i < std::min<int64_t>(wanted.num_top, scores.num_top); ++i) {
    const size_t at = row * static_cast<size_t>(scores.num_top) + static_cast<size_t>(i);
    out.top.emplace_back(scores.top_id[at], scores.top_logprob[at]);
  }
  const auto end = static_cast<ptrdiff_t>(out.top.size());
  const auto first_named = static_cast<size_t>(scores.named_begin[row]);
  for (size_t i = 0; i < wanted.named.size(); ++i) {
    const int32_t id = wanted.named[i];
    const bool is_there = std::any_of(out.top.begin(), out.top.begin() + end,
                                      [id](const auto& entry) { return entry.first == id; });
    if (!is_there) out.top.emplace_back(id, scores.named_logprob[first_named + i]);
  }
  return out;
}

}  // namespace

absl::Status TokenScorer::Score(TensorView logits,
                                TensorView ids,
                                std::span<const Wanted> wanted,
                                Arena& arena) const {
  const auto rows = static_cast<int64_t>(wanted.size());
  HostScores host;
  host.named_begin = {0};
  int num_top = 1;
  for (const Wanted& row : wanted) {
    if (row.out != nullptr) {
      num_top = std::max(num_top, row.num_top);
      host.named_id.insert(host.named_id.end(), row.named.begin(), row.named.end());
    }
    host.named_begin.push_back(static_cast<int32_t>(host.named_id.size()));
  }
  host.num_top = std::min<int64_t>(num_top, num_tokens_);
  const auto num_named = static_cast<int64_t>(host.named_id.size());

  const ArenaScope scope(arena);
  LogProbsArgs args;
  args.logits = logits;
  args.num_tokens = num_tokens_;
  args.id = ids;
  args.logprob = arena.Allocate(DType::kF32, {rows});
  args.rank = arena.Allocate(DType::kI32, {rows});
  args.top_id = arena.Allocate(DType::kI32, {rows, host.num_top});
  args.top_logprob = arena.Allocate(DType::kF32, {rows, host.num_top});
  args.named_begin = arena.Allocate(DType::kI32, {rows + 1});
  args.named_id = arena.Allocate(DType::kI32, {rows * kMaxLogProbIds}).Rows(0, num_named);
  args.named_logprob = arena.Allocate(DType::kF32, {rows * kMaxLogProbIds}).Rows(0, num_named);
  device_.CopyToDevice(args.named_begin, host.named_begin.data());
  if (num_named > 0) device_.CopyToDevice(args.named_id, host.named_id.data());
  device_.ops().LogProbs(args, arena);

  const auto fetch = [&](auto& values, const TensorView& view) {
    values.resize(static_cast<size_t>(view.numel()));
    if (!values.empty()) device_.CopyToHost(values.data(), view);
  };
  fetch(host.id, ids);
  fetch(host.rank, args.rank);
  fetch(host.logprob, args.logprob);
  fetch(host.top_id, args.top_id);
  fetch(host.top_logprob, args.top_logprob);
  fetch(host.named_logprob, args.named_logprob);
  DS_RETURN_IF_ERROR(device_.Synchronize());
  for (size_t row = 0; row < wanted.size(); ++row) {
    if (wanted[row].out != nullptr) *wanted[row].out = Assemble(host, row, wanted[row]);
  }
  return absl::OkStatus();
}

}  // namespace deltaserve
