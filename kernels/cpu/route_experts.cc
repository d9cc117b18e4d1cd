#include "kernels/cpu/route_experts.h"

#include <algorithm>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace deltaserve::cpu {
namespace {

// The k largest logits, best first, ties to the lowest index: one pass that places each expert
// which beats the last of those so far.
void ChooseBest(const float* logits, int64_t n, int64_t k, int32_t* chosen) {
  int64_t count = 0;
  for (int32_t e = 0; e < n; ++e) {
    if (count == k && !(logits[e] > logits[chosen[k - 1]])) continue;
    int64_t at = count < k ? count++ : k - 1;
    for (; at > 0 && logits[e] > logits[chosen[at - 1]]; --at) chosen[at] = chosen[at - 1];
    chosen[at] = e;
  }
}

void RouteRow(
    const float* logits, int64_t n, int64_t k, bool normalize, int32_t* experts, float* weights) {
  ChooseBest(logits, n, k, experts);
  const float max = logits[experts[0]];
  const F32 max_all = Set1(max);
  std::sort(experts, experts + k);
  float total = 0;
  for (int64_t j = 0; j < k; ++j) {
    weights[j] = Exp(logits[experts[j]] - max);
    total += weights[j];
  }
  if (!normalize) {
    F32 sum = Zero();
    for (int64_t e = 0; e < n; e += kLanes) {
      const F32 p = Exp(Sub(LoadFirst(logits + e, n - e), max_all));
      sum = Add(sum, KeepFirst(p, n - e, Zero()));
    }
    total = ReduceSum(sum);
  }
  for (int64_t j = 0; j < k; ++j) weights[j] /= total;
}

}  // namespace

void RouteExperts(const RouteExpertsArgs& args, ThreadPool& pool) {
  const int64_t rows = args.logits.dim(0);
  const int64_t n = args.logits.dim(1);
  const int64_t k = args.experts.dim(1);
  DS_CHECK(k >= 1 && k <= n) << k << " of " << n << " experts";
  DS_CHECK(args.experts.dim(0) == rows && args.weights.numel() == rows * k)
      << args.experts.ToString();
  const float* logits = args.logits.as<float>();
  int32_t* experts = args.experts.as<int32_t>();
  float* weights = args.weights.as<float>();
  ParallelFor(pool, rows, 1, n + k * k, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      RouteRow(logits + r * n, n, k, args.normalize, experts + r * k, weights + r * k);
    }
  });
}

}  // namespace deltaserve::cpu
