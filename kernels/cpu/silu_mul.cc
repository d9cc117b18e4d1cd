#include "kernels/cpu/silu_mul.h"

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace deltaserve::cpu {

void SiluMulRow(const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const F32 g = Silu(LoadFirst(gate + i, n - i));
    StoreFirst(out + i, Mul(g, LoadFirst(up + i, n - i)), n - i);
  }
}

void SiluMul(const SiluMulArgs& args, ThreadPool& pool) {
  const int64_t rows = args.out.dim(0);
  const int64_t width = args.out.dim(1);
  DS_CHECK(args.gate_up.dim(0) == rows && args.gate_up.dim(1) == 2 * width)
      << args.gate_up.ToString() << " to " << args.out.ToString();
  const float* gate_up = args.gate_up.as<float>();
  float* out = args.out.as<float>();
  ParallelFor(pool, rows, 1, 4 * width, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const float* gate = gate_up + r * 2 * width;
      SiluMulRow(gate, gate + width, width, out + r * width);
    }
  });
}

}  // namespace deltaserve::cpu
