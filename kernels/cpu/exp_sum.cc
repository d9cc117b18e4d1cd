#include "kernels/cpu/exp_sum.h"

#include "kernels/cpu/simd.h"

namespace deltaserve::cpu {

double ExpSum(const float* x, int64_t n, float max, float temperature) {
  const F32 max_all = Set1(max);
  const F32 temperature_all = Set1(temperature);
  F64 low = ZeroF64();
  F64 high = ZeroF64();
  for (int64_t i = 0; i < n; i += kLanes) {
    const F32 scaled = Div(Sub(LoadFirst(x + i, n - i), max_all), temperature_all);
    const F32 e = KeepFirst(Exp(scaled), n - i, Zero());
    low = Add(low, LowF64(e));
    high = Add(high, HighF64(e));
  }
  double lanes[kLanes / 2];
  Store(lanes, Add(low, high));
  for (int64_t count = kLanes / 4; count > 0; count /= 2) {
    for (int64_t i = 0; i < count; ++i) lanes[i] += lanes[i + count];
  }
  return lanes[0];
}

}  // namespace deltaserve::cpu
