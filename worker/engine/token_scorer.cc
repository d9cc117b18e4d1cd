#include "worker/engine/token_scorer.h"

#include <algorithm>

#include "kernels/base/status_macros.h"
#include "kernels/ops.h"
#include "proto/params_check.h"
#include "worker/engine/engine_options.h"

namespace deltaserve {
namespace {

TokenLogProb Assemble(const TokenScorer::Started& scores, size_t row) {
  TokenLogProb out{.id = scores.id[row], .logprob = scores.logprob[row], .rank = scores.rank[row]};
  for (int64_t i = 0; i < std::min<int64_t>(scores.rows[row].num_top, scores.num_top); ++i) {
    const size_t at = row * static_cast<size_t>(scores.num_top) + static_cast<size_t>(i);
    out.top.emplace_back(scores.top_id[at], scores.top_logprob[at]);
  }
  const auto end = static_cast<ptrdiff_t>(out.top.size());
  const auto first_named = static_cast<size_t>(scores.named_begin[row]);
  const auto end_named = static_cast<size_t>(scores.named_begin[row + 1]);
  for (size_t i = first_named; i < end_named; ++i) {
    const int32_t id = scores.named_id[i];
    const bool is_there = std::any_of(out.top.begin(), out.top.begin() + end,
                                      [id](const auto& entry) { return entry.first == id; });
    if (!is_there) out.top.emplace_back(id, scores.named_logprob[i]);
  }
  return out;
}

}  // namespace

StepMemory::Sizes TokenScorer::MemoryOf(int64_t rows, int64_t rows_a_call) {
  const auto calls = static_cast<size_t>((rows + rows_a_call - 1) / rows_a_call);
  const size_t values = static_cast<size_t>(rows) * sizeof(int32_t);
  constexpr size_t kUploaded = 1 + size_t{kMaxLogProbIds};
  constexpr size_t kResults = 3 + 2 * size_t{kMaxLogprobs} + size_t{kMaxLogProbIds};
  return {.uploads = StepMemory::Room(values * kUploaded, 3 * calls),
          .results = StepMemory::Room(values * kResults, 6 * calls)};
}

absl::StatusOr<TokenScorer::Started> TokenScorer::Start(TensorView logits,
                                                        TensorView ids,
                                                        std::span<const Wanted> wanted,
                                                        Arena& arena) const {
  const auto rows = static_cast<int64_t>(wanted.size());
  Started started;
  started.named_begin = {0};
  int num_top = 1;
  for (const Wanted& row : wanted) {
    started.rows.push_back({.to = row.to, .num_top = row.num_top});
    if (row.to >= 0) {
      num_top = std::max(num_top, row.num_top);
      started.named_id.insert(started.named_id.end(), row.named.begin(), row.named.end());
    }
    started.named_begin.push_back(static_cast<int32_t>(started.named_id.size()));
  }
  started.num_top = std::min<int64_t>(num_top, num_tokens_);
  const auto num_named = static_cast<int64_t>(started.named_id.size());

  const ArenaScope scope(arena);
  LogProbsArgs args;
  args.logits = logits;
  args.num_tokens = num_tokens_;
  args.id = ids;
  args.logprob = arena.Allocate(DType::kF32, {rows});
  args.rank = arena.Allocate(DType::kI32, {rows});
  args.top_id = arena.Allocate(DType::kI32, {rows, started.num_top});
  args.top_logprob = arena.Allocate(DType::kF32, {rows, started.num_top});
  args.named_begin = arena.Allocate(DType::kI32, {rows + 1});
  args.named_id = arena.Allocate(DType::kI32, {rows * kMaxLogProbIds}).Rows(0, num_named);
  args.named_logprob = arena.Allocate(DType::kF32, {rows * kMaxLogProbIds}).Rows(0, num_named);
  DS_RETURN_IF_ERROR(memory_.ToDevice(args.named_begin, started.named_begin.data()));
  DS_RETURN_IF_ERROR(memory_.ToDevice(args.named_id, started.named_id.data()));
  device_.ops().LogProbs(args, arena);

  started.id = memory_.ToHost<int32_t>(ids);
  started.rank = memory_.ToHost<int32_t>(args.rank);
  started.logprob = memory_.ToHost<float>(args.logprob);
  started.top_id = memory_.ToHost<int32_t>(args.top_id);
  started.top_logprob = memory_.ToHost<float>(args.top_logprob);
  started.named_logprob = memory_.ToHost<float>(args.named_logprob);
  return started;
}

void TokenScorer::Finish(const Started& started, std::vector<TokenLogProb>* out) {
  for (size_t row = 0; row < started.rows.size(); ++row) {
    const int64_t to = started.rows[row].to;
    if (to >= 0) (*out)[static_cast<size_t>(to)] = Assemble(started, row);
  }
}

}  // namespace deltaserve
