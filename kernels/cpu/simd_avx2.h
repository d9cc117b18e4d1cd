#pragma once

// Eight f32 lanes of AVX2 with FMA. Included by simd.h, where the functions are described.

#include <immintrin.h>

#include <cstdint>

namespace deltaserve::cpu {

using F32 = __m256;
inline constexpr int64_t kLanes = 8;
inline constexpr int kRegisters = 16;

inline __m256i LaneMask(int64_t n) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane);
}

inline F32 Zero() { return _mm256_setzero_ps(); }
inline F32 Set1(float x) { return _mm256_set1_ps(x); }
inline float First(F32 x) { return _mm256_cvtss_f32(x); }
inline F32 Load(const float* p) { return _mm256_loadu_ps(p); }
inline void Store(float* p, F32 x) { _mm256_storeu_ps(p, x); }
inline F32 LoadFirst(const float* p, int64_t n) {
  return n >= kLanes ? Load(p) : _mm256_maskload_ps(p, LaneMask(n));
}
inline void StoreFirst(float* p, F32 x, int64_t n) {
  if (n >= kLanes) {
    Store(p, x);
  } else {
    _mm256_maskstore_ps(p, LaneMask(n), x);
  }
}
inline F32 KeepFirst(F32 x, int64_t n, F32 others) {
  return _mm256_blendv_ps(others, x, _mm256_castsi256_ps(LaneMask(n)));
}

inline F32 Add(F32 a, F32 b) { return _mm256_add_ps(a, b); }
inline F32 Sub(F32 a, F32 b) { return _mm256_sub_ps(a, b); }
inline F32 Mul(F32 a, F32 b) { return _mm256_mul_ps(a, b); }
inline F32 Div(F32 a, F32 b) { return _mm256_div_ps(a, b); }
inline F32 Max(F32 a, F32 b) { return _mm256_max_ps(a, b); }
inline F32 Min(F32 a, F32 b) { return _mm256_min_ps(a, b); }
inline F32 Fma(F32 a, F32 b, F32 c) { return _mm256_fmadd_ps(a, b, c); }
inline F32 Fnma(F32 a, F32 b, F32 c) { return _mm256_fnmadd_ps(a, b, c); }
inline F32 Negate(F32 x) { return _mm256_xor_ps(x, _mm256_set1_ps(-0.0f)); }
inline F32 Round(F32 x) {
  return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// In two factors: 2^n itself need not be a normal number.
inline F32 TimesPowerOf2(F32 x, F32 n) {
  const __m256i exponent = _mm256_cvtps_epi32(n);
  const __m256i first = _mm256_srai_epi32(exponent, 1);
  const __m256i second = _mm256_sub_epi32(exponent, first);
  const __m256i bias = _mm256_set1_epi32(127);
  x = Mul(x, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(first, bias), 23)));
  return Mul(x, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(second, bias), 23)));
}

// ((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7))
inline float ReduceSum(F32 x) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
inline float ReduceMax(F32 x) {
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

// Rows i and i + 4 in one vector, then four by four within its halves.
inline void LoadTransposed(const float* p, int64_t stride, F32 (&x)[kLanes]) {
#pragma GCC unroll 2
  for (int j = 0; j < 8; j += 4) {
    F32 row[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const float* from = p + i * stride + j;
      row[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(from)),
                                    _mm_loadu_ps(from + 4 * stride), 1);
    }
    const F32 low01 = _mm256_unpacklo_ps(row[0], row[1]);
    const F32 high01 = _mm256_unpackhi_ps(row[0], row[1]);
    const F32 low23 = _mm256_unpacklo_ps(row[2], row[3]);
    const F32 high23 = _mm256_unpackhi_ps(row[2], row[3]);
    x[j] = _mm256_shuffle_ps(low01, low23, 0x44);
    x[j + 1] = _mm256_shuffle_ps(low01, low23, 0xee);
    x[j + 2] = _mm256_shuffle_ps(high01, high23, 0x44);
    x[j + 3] = _mm256_shuffle_ps(high01, high23, 0xee);
  }
}

inline void WidenPairs(const void* pairs, F32& low, F32& high) {
  const __m256i raw = _mm256_loadu_si256(static_cast<const __m256i*>(pairs));
  low = _mm256_castsi256_ps(_mm256_slli_epi32(raw, 16));
  high = _mm256_castsi256_ps(_mm256_and_si256(raw, _mm256_set1_epi32(-65536)));
}

// Half of the lanes in f64.
using F64 = __m256d;
inline F64 ZeroF64() { return _mm256_setzero_pd(); }
inline F64 Set1(double x) { return _mm256_set1_pd(x); }
inline F64 Load(const double* p) { return _mm256_loadu_pd(p); }
inline void Store(double* p, F64 x) { _mm256_storeu_pd(p, x); }
inline F64 Add(F64 a, F64 b) { return _mm256_add_pd(a, b); }
inline F64 Sub(F64 a, F64 b) { return _mm256_sub_pd(a, b); }
inline F64 LowF64(F32 x) { return _mm256_cvtps_pd(_mm256_castps256_ps128(x)); }
inline F64 HighF64(F32 x) { return _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)); }
inline F32 Narrow(F64 low, F64 high) {
  return _mm256_set_m128(_mm256_cvtpd_ps(high), _mm256_cvtpd_ps(low));
}

}  // namespace deltaserve::cpu
