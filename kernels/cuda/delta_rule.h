#pragma once

// What the kernels of Gated DeltaNet share: their arguments, sizes and scalar formulas. For .cu
// files.

#include "kernels/cuda/device_code.h"

namespace deltaserve::cuda {

inline constexpr int kDeltaHead = 128;  // dk = dv
inline constexpr int kConvKernel = 4;
inline constexpr int kConvHistory = kConvKernel - 1;  // rows of a state of the convolution
inline constexpr int kChunkRows = 64;
inline constexpr float kL2Eps = 1e-6F;
inline constexpr float kQueryScale = 0.08838834764831845F;  // kDeltaHead^-0.5

// GatedDeltaNetArgs for a kernel, by value.
struct DeltaParams {
  int num_key_heads = 0;
  int num_value_heads = 0;
  int channels = 0;  // 2 Hk dk + Hv dv
  int num_sequences = 0;
  int num_decode = 0;       // sequences
  int num_decode_rows = 0;  // rows of those: the first row of a chunk
  int num_rows = 0;
  float eps = 0;
  const int32_t* row_begin = nullptr;     // [num_sequences + 1]
  const int32_t* row_sequence = nullptr;  // [num_rows]
  const int32_t* state = nullptr;         // [num_sequences]
  const bf16* qkv = nullptr;              // [num_rows, channels]
  const bf16* z = nullptr;                // [num_rows, Hv, 128]
  const bf16* b = nullptr;                // [num_rows, Hv]
  const bf16* a = nullptr;                // [num_rows, Hv]
  const float* conv_weight = nullptr;     // [channels, 4]
  const float* a_log = nullptr;           // [Hv]
  const float* dt_bias = nullptr;         // [Hv]
  const float* norm_weight = nullptr;     // [128]
  float* conv_state = nullptr;            // [num_states, 3, channels]
  float* recurrent_state = nullptr;       // [num_states, Hv, 128, 128]
  bf16* out = nullptr;                    // [num_rows, Hv, 128]
};

// Scratch of the chunks. `chunks`: at least as many as sequences have, see ChunkBase.
struct ChunkScratch {
  int chunks = 0;
  bf16* conv = nullptr;       // [chunk rows, channels]: q normalised and scaled, k normalised, v
  bf16* inverse = nullptr;    // [chunks, Hv, 64, 64]: (I + N)^-1 diag(beta)
  bf16* attention = nullptr;  // [chunks, Hv, 64, 64]: (q k^T) D
  float* decay = nullptr;     // [chunks, Hv, 2, 64]: exp(G), exp(G of the last row - G)
};

// Index of a sequence's first chunk in the scratch, from the number of chunk rows before it and its
// number among the sequences with chunks. A sequence of n rows gets n / 64 + 1 or more places,
// which no host has to know.
__device__ inline int ChunkBase(int rows_before, int number) {
  return rows_before / kChunkRows + number;
}

// g of specification 3.5.5: the logarithm of a row's decay.
__device__ inline float LogDecay(float a, float a_log, float dt_bias) {
  const float x = a + dt_bias;
  const float softplus = x > 20.0F ? x : log1pf(expf(x));
  return -expf(a_log) * softplus;
}

__device__ inline float4 LoadFloat4(const float* from) {
  return *reinterpret_cast<const float4*>(from);
}
// Four bf16, aligned to 8 bytes.
__device__ inline float4 LoadBf16x4(const bf16* from) {
  const uint2 bits = *reinterpret_cast<const uint2*>(from);
  const float2 low = UnpackBf16(bits.x);
  const float2 high = UnpackBf16(bits.y);
  return make_float4(low.x, low.y, high.x, high.y);
}
__device__ inline void StoreBf16x4(bf16* to, float4 x) {
  *reinterpret_cast<uint2*>(to) = make_uint2(PackBf16(x.x, x.y), PackBf16(x.z, x.w));
}

__device__ inline float4 Scale(float4 x, float factor) {
  return make_float4(x.x * factor, x.y * factor, x.z * factor, x.w * factor);
}
// x * y + z, each element.
__device__ inline float4 MultiplyAdd(float4 x, float4 y, float4 z) {
  return make_float4(fmaf(x.x, y.x, z.x), fmaf(x.y, y.y, z.y), fmaf(x.z, y.z, z.z),
                     fmaf(x.w, y.w, z.w));
}
__device__ inline float4 MultiplyAdd(float x, float4 y, float4 z) {
  return MultiplyAdd(make_float4(x, x, x, x), y, z);
}
__device__ inline float SumOfSquares(float4 x) {
  return (x.x * x.x + x.y * x.y) + (x.z * x.z + x.w * x.w);
}

}  // namespace deltaserve::cuda
