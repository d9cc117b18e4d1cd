#pragma once

// The short causal convolution in front of the delta rule, on some of its channels.

#include <cstdint>

namespace deltaserve::cpu {

inline constexpr int64_t kMaxConvKernel = 8;

// weight[j * count + c] = conv_weight[c * kernel + j] for c < count: channels side by side.
void PackConvWeight(const float* conv_weight, int64_t kernel, int64_t count, float* weight);

// `count` neighbouring channels of one sequence. Neither out overlaps x nor state.
struct ConvChannels {
  int64_t count = 0;
  int64_t kernel = 0;
  const float* weight = nullptr;  // f32 [kernel, count]: PackConvWeight
  const float* x = nullptr;       // f32 [rows, count] at stride
  float* state = nullptr;  // f32 [kernel - 1, count] at stride: the rows before x, oldest first
  int64_t stride = 0;
};

// out[i][c] = silu(sum_j weight[j][c] * x[begin + i - (kernel - 1) + j][c]) for i < num_rows
// (specification 3.5.2).
void CausalConv(
    const ConvChannels& channels, int64_t begin, int64_t num_rows, float* out, int64_t out_stride);

// state = the last kernel - 1 of its rows and `num_rows` rows of x.
void AdvanceConvState(const ConvChannels& channels, int64_t num_rows);

}  // namespace deltaserve::cpu
