#pragma once

// Four f32 lanes of AArch64's Advanced SIMD. Included by simd.h, where the functions are described.

#include <arm_neon.h>

#include <cstdint>

namespace deltaserve::cpu {

using F32 = float32x4_t;
inline constexpr int64_t kLanes = 4;
inline constexpr int kRegisters = 32;

inline uint32x4_t LaneMask(int64_t n) {
  constexpr uint32_t kLane[4] = {0, 1, 2, 3};
  return vcgtq_u32(vdupq_n_u32(static_cast<uint32_t>(n < 0 ? 0 : n)), vld1q_u32(kLane));
}

inline F32 Zero() { return vdupq_n_f32(0.0f); }
inline F32 Set1(float x) { return vdupq_n_f32(x); }
inline float First(F32 x) { return vgetq_lane_f32(x, 0); }
inline F32 Load(const float* p) { return vld1q_f32(p); }
inline void Store(float* p, F32 x) { vst1q_f32(p, x); }
inline F32 LoadFirst(const float* p, int64_t n) {
  if (n >= kLanes) return Load(p);
  float lanes[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
  return Load(lanes);
}
inline void StoreFirst(float* p, F32 x, int64_t n) {
  if (n >= kLanes) {
    Store(p, x);
    return;
  }
  float lanes[kLanes];
  Store(lanes, x);
  for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}
inline F32 KeepFirst(F32 x, int64_t n, F32 others) { return vbslq_f32(LaneMask(n), x, others); }

inline F32 Add(F32 a, F32 b) { return vaddq_f32(a, b); }
inline F32 Sub(F32 a, F32 b) { return vsubq_f32(a, b); }
inline F32 Mul(F32 a, F32 b) { return vmulq_f32(a, b); }
inline F32 Div(F32 a, F32 b) { return vdivq_f32(a, b); }
// As on x86 the second operand where either is NaN.
inline F32 Max(F32 a, F32 b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
inline F32 Min(F32 a, F32 b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
inline F32 Fma(F32 a, F32 b, F32 c) { return vfmaq_f32(c, a, b); }
inline F32 Fnma(F32 a, F32 b, F32 c) { return vfmsq_f32(c, a, b); }
inline F32 Negate(F32 x) { return vnegq_f32(x); }
inline F32 Round(F32 x) { return vrndnq_f32(x); }
// In two factors: 2^n itself need not be a normal number.
inline F32 TimesPowerOf2(F32 x, F32 n) {
  const int32x4_t exponent = vcvtnq_s32_f32(n);
  const int32x4_t first = vshrq_n_s32(exponent, 1);
  const int32x4_t second = vsubq_s32(exponent, first);
  const int32x4_t bias = vdupq_n_s32(127);
  x = Mul(x, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(first, bias), 23)));
  return Mul(x, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(second, bias), 23)));
}

// (l0 + l2) + (l1 + l3)
inline float ReduceSum(F32 x) {
  const float32x2_t half = vadd_f32(vget_low_f32(x), vget_high_f32(x));
  return vget_lane_f32(half, 0) + vget_lane_f32(half, 1);
}
inline float ReduceMax(F32 x) { return vmaxvq_f32(x); }

inline void LoadTransposed(const float* p, int64_t stride, F32 (&x)[kLanes]) {
  const float32x4x2_t even = vzipq_f32(Load(p), Load(p + 2 * stride));
  const float32x4x2_t odd = vzipq_f32(Load(p + stride), Load(p + 3 * stride));
  const float32x4x2_t low = vzipq_f32(even.val[0], odd.val[0]);
  const float32x4x2_t high = vzipq_f32(even.val[1], odd.val[1]);
  x[0] = low.val[0];
  x[1] = low.val[1];
  x[2] = high.val[0];
  x[3] = high.val[1];
}

inline void WidenPairs(const void* pairs, F32& low, F32& high) {
  const uint32x4_t raw = vld1q_u32(static_cast<const uint32_t*>(pairs));
  low = vreinterpretq_f32_u32(vshlq_n_u32(raw, 16));
  high = vreinterpretq_f32_u32(vandq_u32(raw, vdupq_n_u32(0xffff0000u)));
}

// Half of the lanes in f64.
using F64 = float64x2_t;
inline F64 ZeroF64() { return vdupq_n_f64(0.0); }
inline F64 Set1(double x) { return vdupq_n_f64(x); }
inline F64 Load(const double* p) { return vld1q_f64(p); }
inline void Store(double* p, F64 x) { vst1q_f64(p, x); }
inline F64 Add(F64 a, F64 b) { return vaddq_f64(a, b); }
inline F64 Sub(F64 a, F64 b) { return vsubq_f64(a, b); }
inline F64 LowF64(F32 x) { return vcvt_f64_f32(vget_low_f32(x)); }
inline F64 HighF64(F32 x) { return vcvt_f64_f32(vget_high_f32(x)); }
inline F32 Narrow(F64 low, F64 high) { return vcombine_f32(vcvt_f32_f64(low), vcvt_f32_f64(high)); }

}  // namespace deltaserve::cpu
