#include "kernels/cpu/norm.h"

#include <cmath>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace deltaserve::cpu {
namespace {

// sum[i] += ((parts[0][i] + parts[1][i]) + parts[2][i]) + ..., parts[p] = parts + p * stride.
void AddParts(const float* parts, int64_t stride, int64_t num_parts, int64_t width, float* sum) {
  for (int64_t i = 0; i < width; i += kLanes) {
    const int64_t n = width - i;
    F32 total = LoadFirst(parts + i, n);
    for (int64_t p = 1; p < num_parts; ++p) {
      total = Add(total, LoadFirst(parts + p * stride + i, n));
    }
    StoreFirst(sum + i, Add(LoadFirst(sum + i, n), total), n);
  }
}

}  // namespace

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
  const int64_t parts = args.delta.rank() == 3 ? args.delta.dim(0) : 1;
  const int64_t stride = args.residual.numel();
  DS_CHECK(args.weight.numel() == width && args.out.numel() == stride &&
           args.delta.numel() == parts * stride)
      << args.residual.ToString() << " plus " << args.delta.ToString();
  const float* delta = args.delta.as<float>();
  const float* weight = args.weight.as<float>();
  float* residual = args.residual.as<float>();
  float* out = args.out.as<float>();
  const int64_t cost = (1 + parts) * width;
  ParallelFor(pool, args.residual.dim(0), 1, cost, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      float* row = residual + r * width;
      AddParts(delta + r * width, stride, parts, width, row);
      NormalizeRow(row, weight, args.eps, width, out + r * width);
    }
  });
}

}  // namespace deltaserve::cpu
