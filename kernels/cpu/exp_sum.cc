#include "kernels/cpu/exp_sum.h"

#include "kernels/cpu/simd.h"

namespace deltaserve::cpu {

double ExpSum(const float* x, int64_t n, float max, float temperature) {
  const __m256 max8 = _mm256_set1_ps(max);
  const __m256 temperature8 = _mm256_set1_ps(temperature);
  __m256d low = _mm256_setzero_pd();
  __m256d high = _mm256_setzero_pd();
  for (int64_t i = 0; i < n; i += kLanes) {
    const __m256 scaled = _mm256_div_ps(_mm256_sub_ps(LoadFirst(x + i, n - i), max8), temperature8);
    const __m256 e = _mm256_and_ps(Exp(scaled), _mm256_castsi256_ps(LaneMask(n - i)));
    low = _mm256_add_pd(low, _mm256_cvtps_pd(_mm256_castps256_ps128(e)));
    high = _mm256_add_pd(high, _mm256_cvtps_pd(_mm256_extractf128_ps(e, 1)));
  }
  alignas(32) double lanes[4];
  _mm256_store_pd(lanes, _mm256_add_pd(low, high));
  return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

}  // namespace deltaserve::cpu
