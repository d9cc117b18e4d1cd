#include "kernels/cuda/launch.h"
#include "kernels/cuda/route_experts.h"

namespace deltaserve::cuda {
namespace {

constexpr int kPerLane = static_cast<int>(kMaxExperts) / kWarp;
constexpr int kRowsPerBlock = 4;  // warps

struct Candidate {
  float logit;
  int32_t expert;
};

// Worse than every real one.
__device__ Candidate NoCandidate() { return {-INFINITY, INT32_MAX}; }

__device__ bool Beats(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.expert < b.expert);
}

// The best of a lane's experts (lane + 32 i) whose bit i of `left` is set.
__device__ Candidate BestOfLane(const float (&logits)[kPerLane], uint32_t left) {
  Candidate best = NoCandidate();
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const Candidate candidate = {logits[i], LaneId() + kWarp * i};
    if ((left >> i & 1U) != 0 && Beats(candidate, best)) best = candidate;
  }
  return best;
}

// All lanes get the result.
__device__ Candidate BestOfWarp(Candidate best) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    const Candidate other = {ShuffleXor(best.logit, mask), ShuffleXor(best.expert, mask)};
    if (Beats(other, best)) best = other;
  }
  return best;
}

// logits: f32 [rows, n]; experts, weights: [rows, k].
__global__ void RouteKernel(
    const float* logits, int rows, int n, int k, bool normalize, int32_t* experts, float* weights) {
  const int row = static_cast<int>(blockIdx.x) * kRowsPerBlock + WarpId();
  if (row >= rows) return;
  const float* const from = logits + static_cast<int64_t>(row) * n;
  float mine[kPerLane];
  uint32_t left = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int expert = LaneId() + kWarp * i;
    mine[i] = -INFINITY;
    if (expert < n) {
      const float logit = from[expert];
      mine[i] = logit == logit ? logit : -INFINITY;
      left |= 1U << i;
    }
  }

  // Lane j keeps the choice j.
  Candidate best_of_lane = BestOfLane(mine, left);
  Candidate chosen = NoCandidate();
  float max = 0;
  for (int j = 0; j < k; ++j) {
    const Candidate best = BestOfWarp(best_of_lane);
    if (j == 0) max = best.logit;
    if (LaneId() == j) chosen = best;
    if (best.expert == best_of_lane.expert) {
      left &= ~(1U << (best.expert / kWarp));
      best_of_lane = BestOfLane(mine, left);
    }
  }

  const bool chooses = LaneId() < k;
  const float p = chooses ? expf(chosen.logit - max) : 0.0F;
  float total = p;
  if (!normalize) {
    total = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) total += expf(mine[i] - max);  // 0 beyond n
  }
  total = WarpSum(total);
  int place = 0;  // among the chosen by expert
  for (int j = 0; j < k; ++j) place += Shuffle(chosen.expert, j) < chosen.expert ? 1 : 0;
  if (chooses) {
    const int64_t to = static_cast<int64_t>(row) * k + place;
    experts[to] = chosen.expert;
    weights[to] = p / total;
  }
}

}  // namespace

void RouteExperts(const RouteExpertsArgs& args, Queue& queue) {
  const int64_t rows = args.logits.dim(0);
  const int64_t n = args.logits.dim(1);
  const int64_t k = args.experts.dim(1);
  DS_CHECK(n <= kMaxExperts && k >= 1 && k <= kMaxTopK && k <= n)
      << k << " of " << n << " experts; up to " << kMaxTopK << " of up to " << kMaxExperts
      << " can be chosen";
  DS_CHECK(args.experts.dim(0) == rows && args.weights.numel() == rows * k)
      << args.experts.ToString() << ", " << args.weights.ToString();
  Launch<&RouteKernel>(queue, dim3(Blocks(rows, kRowsPerBlock)), dim3(kRowsPerBlock * kWarp), 0,
                       args.logits.as<float>(), static_cast<int>(rows), static_cast<int>(n),
                       static_cast<int>(k), args.normalize, args.experts.as<int32_t>(),
                       args.weights.as<float>());
}

}  // namespace deltaserve::cuda
