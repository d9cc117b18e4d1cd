#include "kernels/cpu/log_probs.h"

#include <algorithm>

#include "kernels/cpu/exp_sum.h"
#include "kernels/cpu/parallel.h"
#include "kernels/random.h"

namespace deltaserve::cpu {
namespace {

// The `count` largest, most likely first, ties to the lowest id, by insertion. Logits go to `top`.
void TopLogits(const float* logits, int64_t n, int64_t count, int32_t* ids, float* top) {
  int64_t filled = 0;
  for (int64_t id = 0; id < n; ++id) {
    if (filled == count && (count == 0 || !(logits[id] > top[count - 1]))) continue;
    int64_t at = filled < count ? filled++ : count - 1;
    for (; at > 0 && logits[id] > top[at - 1]; --at) {
      top[at] = top[at - 1];
      ids[at] = ids[at - 1];
    }
    top[at] = logits[id];
    ids[at] = static_cast<int32_t>(id);
  }
}

void LogProbsRow(const LogProbsArgs& args, int64_t row) {
  const int64_t n = args.num_tokens;
  const int64_t num_top = args.top_id.dim(1);
  const float* logits = args.logits.as<float>() + row * args.logits.dim(1);
  const int32_t id = args.id.as<int32_t>()[row];
  DS_CHECK(id >= 0 && id < n) << "id " << id << " of " << n;
  const float max = *std::max_element(logits, logits + n);
  const double sum = ExpSum(logits, n, max, 1.0f);
  const auto log_sum = static_cast<float>(static_cast<double>(max) + PortableLog(sum));
  int32_t rank = 1;
  for (int64_t i = 0; i < n; ++i) rank += logits[i] > logits[id] ? 1 : 0;
  args.logprob.as<float>()[row] = logits[id] - log_sum;
  args.rank.as<int32_t>()[row] = rank;
  float* top = args.top_logprob.as<float>() + row * num_top;
  TopLogits(logits, n, num_top, args.top_id.as<int32_t>() + row * num_top, top);
  for (int64_t j = 0; j < num_top; ++j) top[j] -= log_sum;
  const int32_t* begin = args.named_begin.as<int32_t>() + row;
  for (int32_t j = begin[0]; j < begin[1]; ++j) {
    const int32_t named = args.named_id.as<int32_t>()[j];
    DS_CHECK(named >= 0 && named < n) << "id " << named << " of " << n;
    args.named_logprob.as<float>()[j] = logits[named] - log_sum;
  }
}

}  // namespace

void LogProbs(const LogProbsArgs& args, ThreadPool& pool) {
  const int64_t rows = args.logits.dim(0);
  DS_CHECK(args.id.numel() == rows && args.logprob.numel() == rows && args.rank.numel() == rows &&
           args.top_id.dim(0) == rows && args.top_logprob.numel() == args.top_id.numel())
      << args.logits.ToString() << ", " << args.top_id.ToString();
  DS_CHECK(args.named_begin.numel() == rows + 1 &&
           args.named_id.numel() == args.named_logprob.numel() &&
           args.named_begin.as<int32_t>()[rows] <= args.named_id.numel())
      << args.named_begin.ToString() << ", " << args.named_id.ToString();
  DS_CHECK(args.num_tokens <= args.logits.dim(1) && args.top_id.dim(1) <= args.num_tokens)
      << args.top_id.ToString() << " of " << args.num_tokens;
  ParallelFor(pool, rows, 1, 4 * args.num_tokens, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) LogProbsRow(args, r);
  });
}

}  // namespace deltaserve::cpu
