#pragma once

// F32, a vector of kLanes f32 of the instruction set that the file is compiled for, and what the
// kernels do with it. Only files that are compiled once for each instruction set may include this.
//
// From the header of the instruction set:
//   kLanes, kRegisters          lanes of a vector, vector registers
//   LoadFirst, StoreFirst       the first n lanes, zeros above; memory past p + n is not touched;
//                               n is not negative; n >= kLanes takes all
//   KeepFirst(x, n, others)     lanes [0, n) of x, the rest of others
//   Max, Min                    the second operand where either is NaN
//   Fma, Fnma                   a * b + c and c - a * b, rounded once
//   Round                       to the nearest whole number, ties to even
//   TimesPowerOf2(x, n)         x * 2^n for whole n, 0, denormal or infinite where that is right
//   ReduceSum, ReduceMax        over lanes; sums in one fixed tree
//   LoadTransposed              lane i of x[j] = p[i * stride + j], i and j < kLanes
//   WidenPairs                  kLanes pairs of bf16 as two vectors: the even (low halves of 32
//                               bits) and the odd ones
//   F64, LowF64, HighF64, ...   half as many f64 lanes

#if defined(__AVX512F__)
#include "kernels/cpu/simd_avx512.h"
#elif defined(__AVX2__)
#include "kernels/cpu/simd_avx2.h"
#else
#include "kernels/cpu/simd_neon.h"
#endif

namespace deltaserve::cpu {

// e^x, relative error below 2e-7 over normal results; correct to 0, denormals and infinity at the
// ends; NaN gives NaN. x = n ln 2 + r, a polynomial in r (Cephes expf), times 2^n.
inline F32 Exp(F32 x) {
  x = Max(Set1(-150.0f), Min(Set1(100.0f), x));
  const F32 n = Round(Mul(x, Set1(1.44269504f)));
  F32 r = Fnma(n, Set1(0.693359375f), x);
  r = Fnma(n, Set1(-2.12194440e-4f), r);
  F32 p = Set1(1.9875691500e-4f);
  p = Fma(p, r, Set1(1.3981999507e-3f));
  p = Fma(p, r, Set1(8.3334519073e-3f));
  p = Fma(p, r, Set1(4.1665795894e-2f));
  p = Fma(p, r, Set1(1.6666665459e-1f));
  p = Fma(p, r, Set1(5.0000001201e-1f));
  p = Fma(Mul(r, r), p, r);
  return TimesPowerOf2(Add(p, Set1(1.0f)), n);
}

// The same bits as a lane of Exp().
inline float Exp(float x) { return First(Exp(Set1(x))); }

// 1 / (1 + e^-x)
inline F32 Sigmoid(F32 x) {
  const F32 one = Set1(1.0f);
  return Div(one, Add(one, Exp(Negate(x))));
}
inline float Sigmoid(float x) { return First(Sigmoid(Set1(x))); }

// x / (1 + e^-x)
inline F32 Silu(F32 x) { return Div(x, Add(Set1(1.0f), Exp(Negate(x)))); }

// Sum of x[i]^2 over [0, n): vectors in four interleaved chains, then one fixed tree.
inline float SumOfSquares(const float* x, int64_t n) {
  F32 sum[4] = {Zero(), Zero(), Zero(), Zero()};
  for (int64_t i = 0; i < n; i += 4 * kLanes) {
    for (int64_t j = 0; j < 4 && i + j * kLanes < n; ++j) {
      const F32 v = LoadFirst(x + i + j * kLanes, n - i - j * kLanes);
      sum[j] = Fma(v, v, sum[j]);
    }
  }
  return ReduceSum(Add(Add(sum[0], sum[1]), Add(sum[2], sum[3])));
}

}  // namespace deltaserve::cpu
