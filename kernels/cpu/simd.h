#pragma once

// Eight f32 lanes of AVX2 with FMA: loads with tails, sums in one fixed order, exp and what follows
// from it. Only files compiled for x86-64-v3 may include this.

#include <immintrin.h>

#include <cstdint>

#include "kernels/tensor/dtype.h"

namespace deltaserve::cpu {

inline constexpr int64_t kLanes = 8;

// Lanes [0, n) set, 0 <= n <= 8.
inline __m256i LaneMask(int64_t n) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane);
}

inline __m256 Load(const float* p) { return _mm256_loadu_ps(p); }
inline void Store(float* p, __m256 x) { _mm256_storeu_ps(p, x); }

// The first n lanes, zeros above; n is at most 8 and memory past p + n is not touched.
inline __m256 LoadFirst(const float* p, int64_t n) {
  return n >= kLanes ? Load(p) : _mm256_maskload_ps(p, LaneMask(n));
}
inline void StoreFirst(float* p, __m256 x, int64_t n) {
  if (n >= kLanes) {
    Store(p, x);
  } else {
    _mm256_maskstore_ps(p, LaneMask(n), x);
  }
}

// ((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7))
inline float ReduceSum(__m256 x) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

inline float ReduceMax(__m256 x) {
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

// e^x, relative error below 2e-7 over normal results; correct to 0, denormals and infinity at the
// ends; NaN gives NaN. x = n ln 2 + r, a polynomial in r (Cephes expf), 2^n in two factors.
inline __m256 Exp(__m256 x) {
  x = _mm256_max_ps(_mm256_set1_ps(-150.0f), _mm256_min_ps(_mm256_set1_ps(100.0f), x));
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
  __m256 p = _mm256_set1_ps(1.9875691500e-4f);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.3981999507e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.3334519073e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.1665795894e-2f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.6666665459e-1f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.0000001201e-1f));
  p = _mm256_fmadd_ps(_mm256_mul_ps(r, r), p, r);
  p = _mm256_add_ps(p, _mm256_set1_ps(1.0f));
  const __m256i exponent = _mm256_cvtps_epi32(n);
  const __m256i first = _mm256_srai_epi32(exponent, 1);
  const __m256i second = _mm256_sub_epi32(exponent, first);
  const __m256i bias = _mm256_set1_epi32(127);
  p = _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(first, bias), 23)));
  return _mm256_mul_ps(p,
                       _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(second, bias), 23)));
}

// The same bits as a lane of Exp().
inline float Exp(float x) { return _mm256_cvtss_f32(Exp(_mm256_set1_ps(x))); }

inline __m256 Negate(__m256 x) { return _mm256_xor_ps(x, _mm256_set1_ps(-0.0f)); }

// 1 / (1 + e^-x)
inline __m256 Sigmoid(__m256 x) {
  const __m256 one = _mm256_set1_ps(1.0f);
  return _mm256_div_ps(one, _mm256_add_ps(one, Exp(Negate(x))));
}
inline float Sigmoid(float x) { return _mm256_cvtss_f32(Sigmoid(_mm256_set1_ps(x))); }

// x / (1 + e^-x)
inline __m256 Silu(__m256 x) {
  return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0f), Exp(Negate(x))));
}

// Sum of x[i]^2 over [0, n): lanes of 8 in four interleaved chains, then one fixed tree.
inline float SumOfSquares(const float* x, int64_t n) {
  __m256 sum[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
                   _mm256_setzero_ps()};
  for (int64_t i = 0; i < n; i += 4 * kLanes) {
    for (int64_t j = 0; j < 4 && i + j * kLanes < n; ++j) {
      const __m256 v = LoadFirst(x + i + j * kLanes, n - i - j * kLanes);
      sum[j] = _mm256_fmadd_ps(v, v, sum[j]);
    }
  }
  return ReduceSum(_mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3])));
}

}  // namespace deltaserve::cpu
