#pragma once

// Sixteen f32 lanes of AVX-512 (F, BW, DQ, VL). Included by simd.h, where the functions are
// described.

#include <immintrin.h>

#include <cstdint>

namespace deltaserve::cpu {

using F32 = __m512;
inline constexpr int64_t kLanes = 16;
inline constexpr int kRegisters = 32;

inline __mmask16 LaneMask(int64_t n) {
  return static_cast<__mmask16>(n >= kLanes ? 0xffff : (1 << n) - 1);
}

inline F32 Zero() { return _mm512_setzero_ps(); }
inline F32 Set1(float x) { return _mm512_set1_ps(x); }
inline float First(F32 x) { return _mm512_cvtss_f32(x); }
inline F32 Load(const float* p) { return _mm512_loadu_ps(p); }
inline void Store(float* p, F32 x) { _mm512_storeu_ps(p, x); }
inline F32 LoadFirst(const float* p, int64_t n) {
  return n >= kLanes ? Load(p) : _mm512_maskz_loadu_ps(LaneMask(n), p);
}
inline void StoreFirst(float* p, F32 x, int64_t n) {
  if (n >= kLanes) {
    Store(p, x);
  } else {
    _mm512_mask_storeu_ps(p, LaneMask(n), x);
  }
}
inline F32 KeepFirst(F32 x, int64_t n, F32 others) {
  return _mm512_mask_blend_ps(LaneMask(n), others, x);
}

inline F32 Add(F32 a, F32 b) { return _mm512_add_ps(a, b); }
inline F32 Sub(F32 a, F32 b) { return _mm512_sub_ps(a, b); }
inline F32 Mul(F32 a, F32 b) { return _mm512_mul_ps(a, b); }
inline F32 Div(F32 a, F32 b) { return _mm512_div_ps(a, b); }
inline F32 Max(F32 a, F32 b) { return _mm512_max_ps(a, b); }
inline F32 Min(F32 a, F32 b) { return _mm512_min_ps(a, b); }
inline F32 Fma(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }
inline F32 Fnma(F32 a, F32 b, F32 c) { return _mm512_fnmadd_ps(a, b, c); }
inline F32 Negate(F32 x) { return _mm512_xor_ps(x, _mm512_set1_ps(-0.0f)); }
inline F32 Round(F32 x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline F32 TimesPowerOf2(F32 x, F32 n) { return _mm512_scalef_ps(x, n); }

// Halves added, then as eight lanes: ((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7)).
inline float ReduceSum(F32 x) {
  const __m256 folded = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(folded), _mm256_extractf128_ps(folded, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
inline float ReduceMax(F32 x) { return _mm512_reduce_max_ps(x); }

// Pairs of rows, pairs of pairs, then 128-bit quarters twice.
inline void LoadTransposed(const float* p, int64_t stride, F32 (&x)[kLanes]) {
  F32 pair[kLanes];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2, p += 2 * stride) {
    const F32 a = Load(p);
    const F32 b = Load(p + stride);
    pair[i] = _mm512_unpacklo_ps(a, b);
    pair[i + 1] = _mm512_unpackhi_ps(a, b);
  }
  F32 four[kLanes];  // [i + j]: of rows i to i + 3, columns j + 4 * quarter
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    four[i] = _mm512_shuffle_ps(pair[i], pair[i + 2], 0x44);
    four[i + 1] = _mm512_shuffle_ps(pair[i], pair[i + 2], 0xee);
    four[i + 2] = _mm512_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
    four[i + 3] = _mm512_shuffle_ps(pair[i + 1], pair[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const F32 low_even = _mm512_shuffle_f32x4(four[j], four[4 + j], 0x88);
    const F32 low_odd = _mm512_shuffle_f32x4(four[j], four[4 + j], 0xdd);
    const F32 high_even = _mm512_shuffle_f32x4(four[8 + j], four[12 + j], 0x88);
    const F32 high_odd = _mm512_shuffle_f32x4(four[8 + j], four[12 + j], 0xdd);
    x[j] = _mm512_shuffle_f32x4(low_even, high_even, 0x88);
    x[4 + j] = _mm512_shuffle_f32x4(low_odd, high_odd, 0x88);
    x[8 + j] = _mm512_shuffle_f32x4(low_even, high_even, 0xdd);
    x[12 + j] = _mm512_shuffle_f32x4(low_odd, high_odd, 0xdd);
  }
}

inline void WidenPairs(const void* pairs, F32& low, F32& high) {
  const __m512i raw = _mm512_loadu_si512(pairs);
  low = _mm512_castsi512_ps(_mm512_slli_epi32(raw, 16));
  high = _mm512_castsi512_ps(_mm512_and_si512(raw, _mm512_set1_epi32(-65536)));
}

// Half of the lanes in f64.
using F64 = __m512d;
inline F64 ZeroF64() { return _mm512_setzero_pd(); }
inline F64 Set1(double x) { return _mm512_set1_pd(x); }
inline F64 Load(const double* p) { return _mm512_loadu_pd(p); }
inline void Store(double* p, F64 x) { _mm512_storeu_pd(p, x); }
inline F64 Add(F64 a, F64 b) { return _mm512_add_pd(a, b); }
inline F64 Sub(F64 a, F64 b) { return _mm512_sub_pd(a, b); }
inline F64 LowF64(F32 x) { return _mm512_cvtps_pd(_mm512_castps512_ps256(x)); }
inline F64 HighF64(F32 x) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)); }
inline F32 Narrow(F64 low, F64 high) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1);
}

}  // namespace deltaserve::cpu
