#include "kernels/cpu/norm.h"

#include <cmath>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace deltaserve::cpu {

void NormalizeRow(const float* x, const float* weight, float eps, int64_t width, float* out) {
  const float mean = SumOfSquares(x, width) / static_cast<float>(width);
  const F32 scale = Set1(1.0f / std::sqrt(mean + eps));
  for (int64_t i = 0; i < width; i += kLanes) {
    const int64_t n = width - i;
    const F32 y = Mul(LoadFirst(x + i, n), scale);
    StoreFirst(out + i, Mul(y, LoadFirst(weight + i, n)), n);
  }
}

void RmsNorm(const RmsNormArgs& args, ThreadPool& pool) {
  const int64_t width = args.x.dim(1);
  DS_CHECK(args.weight.numel() == width && args.out.numel() == args.x.numel())
      << args.x.ToString() << " by " << args.weight.ToString() << " to " << args.out.ToString();
  const float* x = args.x.as<float>();
  const float* weight = args.weight.as<float>();
  float* out = args.out.as<float>();
  ParallelFor(pool, args.x.dim(0), 1, width, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      NormalizeRow(x + r * width, weight, args.eps, width, out + r * width);
    }
  });
}

void AddRmsNorm(const AddRmsNormArgs& args, ThreadPool& pool) {
  const int64_t width = args.residual.dim(1);
  DS_CHECK(args.weight.numel() == width && args.out.numel() == args.residual.numel() &&
           args.delta.numel() == args.residual.numel())
      << args.residual.ToString() << " plus " << args.delta.ToString();
  const float* delta = args.delta.as<float>();
  const float* weight = args.weight.as<float>();
  float* residual = args.residual.as<float>();
  float* out = args.out.as<float>();
  ParallelFor(pool, args.residual.dim(0), 1, 2 * width, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      float* row = residual + r * width;
      const float* add = delta + r * width;
      for (int64_t i = 0; i < width; ++i) row[i] += add[i];
      NormalizeRow(row, weight, args.eps, width, out + r * width);
    }
  });
}

}  // namespace deltaserve::cpu
