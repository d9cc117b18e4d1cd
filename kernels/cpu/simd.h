#pragma once

// F32, a vector of kLanes f32 of the instruction set that the file is compiled for, and what the
// kernels do with it. Only files that are compiled once for each instruction set may include this.
//
// From the header of the instruction set:
//   kLanes, kRegisters          lanes of a vector, vector registers
//   LoadFirst, StoreFirst       the first n lanes, zeros above; memory past p + n is not touched;
//                               n <= 0 is none, n >= kLanes takes all
//   KeepFirst(x, n, others)     lanes [0, n) of x, the rest of others
//   Max, Min                    the second operand where either is NaN
//   Fma, Fnma                   a * b + c and c - a * b, rounded once
//   Round                       to the nearest whole number, ties to even
//   TimesPowerOf2(x, n)         x * 2^n for whole n, 0, denormal or infinite where that is right
//   ReduceSum, ReduceMax        over lanes; sums in one fixed tree
//   LoadTransposed              lane i of x[j] = p[i * stride + j], i and j < kLanes
//   WidenPairs                  kLanes pairs of bf16 as two vectors: the even (low halves of 32
//                               bits) and the odd ones
//   Unzip(a, b)                a, then b, as one row of lanes: a becomes its even lanes, b its odd
//   F64, LowF64, HighF64, ...   half as many f64 lanes
//   I32, ZeroI32, LoadI32, ...  kLanes i32 lanes
//   StoreBytes                  whole numbers of [-128, 127], kLanes of them, as s8
//   ByteDot                     sum + the four products of 8-bit numbers in each 32-bit lane,
//                               exactly: Step(sum, Weights(w), Row(x)). w: four bytes a lane, each
//                               a weight of [-127, 127] plus kByteBias; x: four s8, the same for
//                               all lanes
//   FastByteDot                 the same by instructions that not every processor of the
//                               instruction set has

#include <initializer_list>

#if defined(__AVX512F__)
#include "kernels/cpu/simd_avx512.h"
#elif defined(__AVX2__)
#include "kernels/cpu/simd_avx2.h"
#else
#include "kernels/cpu/simd_neon.h"
#endif

namespace deltaserve::cpu {

// e^x of each vector, relative error below 2e-7 over normal results; correct to 0, denormals and
// infinity at the ends; NaN gives NaN. x = n ln 2 + r, a polynomial in r (Cephes expf), times 2^n.
// Step by step over all vectors, since one vector's steps wait for one another.
template <int kCount>
inline void ExpEach(F32 (&x)[kCount]) {
  const auto each = [](auto&& step) {
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) step(i);
  };
  F32 n[kCount];
  F32 p[kCount];
  each([&](int i) { x[i] = Max(Set1(-150.0f), Min(Set1(100.0f), x[i])); });
  each([&](int i) { n[i] = Round(Mul(x[i], Set1(1.44269504f))); });
  each([&](int i) { x[i] = Fnma(n[i], Set1(0.693359375f), x[i]); });
  each([&](int i) { x[i] = Fnma(n[i], Set1(-2.12194440e-4f), x[i]); });
  each([&](int i) { p[i] = Fma(Set1(1.9875691500e-4f), x[i], Set1(1.3981999507e-3f)); });
  for (const float c : {8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f}) {
    each([&](int i) { p[i] = Fma(p[i], x[i], Set1(c)); });
  }
  each([&](int i) { p[i] = Fma(Mul(x[i], x[i]), p[i], x[i]); });
  each([&](int i) { x[i] = TimesPowerOf2(Add(p[i], Set1(1.0f)), n[i]); });
}

// The same bits as a vector of ExpEach().
inline F32 Exp(F32 x) {
  F32 each[1] = {x};
  ExpEach(each);
  return each[0];
}

// The same bits as a lane of Exp().
inline float Exp(float x) { return First(Exp(Set1(x))); }

// 1 / (1 + e^-x)
inline F32 Sigmoid(F32 x) {
  const F32 one = Set1(1.0f);
  return Div(one, Add(one, Exp(Negate(x))));
}
inline float Sigmoid(float x) { return First(Sigmoid(Set1(x))); }

// x / (1 + e^-x) of each vector.
template <int kCount>
inline void SiluEach(F32 (&x)[kCount]) {
  F32 e[kCount];
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) e[i] = Negate(x[i]);
  ExpEach(e);
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) x[i] = Div(x[i], Add(Set1(1.0f), e[i]));
}
inline F32 Silu(F32 x) {
  F32 each[1] = {x};
  SiluEach(each);
  return each[0];
}

// The vectors as one row of kCount * kLanes lanes become its columns when it is written as rows of
// kCount: lane c of vector j is lane c * kCount + j of the row. kCount = kLanes transposes a
// square. kCount is a power of two.
template <int kCount>
inline void Deinterleave(F32 (&x)[kCount]) {
#pragma GCC unroll 4
  for (int done = 1; done < kCount; done *= 2) {
    F32 even[kCount / 2];
    F32 odd[kCount / 2];
#pragma GCC unroll 8
    for (int i = 0; i < kCount / 2; ++i) {
      even[i] = x[2 * i];
      odd[i] = x[2 * i + 1];
      Unzip(even[i], odd[i]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kCount / 2; ++i) {
      x[i] = even[i];
      x[i + kCount / 2] = odd[i];
    }
  }
}

// Sum of x[i]^2 over [0, n): vectors in four interleaved chains, then one fixed tree.
inline float SumOfSquares(const float* x, int64_t n) {
  F32 sum[4] = {Zero(), Zero(), Zero(), Zero()};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int64_t j = 0; j < 4; ++j) {
      const F32 v = Load(x + i + j * kLanes);
      sum[j] = Fma(v, v, sum[j]);
    }
  }
  for (; i < n; i += 4 * kLanes) {
    for (int64_t j = 0; j < 4 && i + j * kLanes < n; ++j) {
      const F32 v = LoadFirst(x + i + j * kLanes, n - i - j * kLanes);
      sum[j] = Fma(v, v, sum[j]);
    }
  }
  return ReduceSum(Add(Add(sum[0], sum[1]), Add(sum[2], sum[3])));
}

}  // namespace deltaserve::cpu
