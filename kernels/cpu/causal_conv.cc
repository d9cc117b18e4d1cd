#include "kernels/cpu/causal_conv.h"

#include <algorithm>

#include "kernels/cpu/simd.h"

namespace deltaserve::cpu {
namespace {

constexpr int64_t kUsualKernel = 4;  // of all published models
constexpr int64_t kAheadRows = 4;    // rows that are asked of memory before they are read

// Row t, which may be one of the state's.
const float* RowAt(const ConvChannels& ch, int64_t t) {
  return t < 0 ? ch.state + (t + ch.kernel - 1) * ch.stride : ch.x + t * ch.stride;
}

// kTaps: the kernel, or 0 for any.
template <int64_t kTaps>
void ConvRow(const ConvChannels& ch, int64_t t, const float* ahead, float* out) {
  const int64_t taps = kTaps == 0 ? ch.kernel : kTaps;
  const float* rows[kMaxConvKernel];
  for (int64_t j = 0; j < taps; ++j) rows[j] = RowAt(ch, t - (taps - 1) + j);
  for (int64_t c = 0; c < ch.count; c += kLanes) {
    const int64_t n = ch.count - c;
    __builtin_prefetch(ahead + c);
    F32 sum = Zero();
#pragma GCC unroll 4
    for (int64_t j = 0; j < taps; ++j) {
      sum = Fma(LoadFirst(ch.weight + j * ch.count + c, n), LoadFirst(rows[j] + c, n), sum);
    }
    StoreFirst(out + c, Silu(sum), n);
  }
}

}  // namespace

void PackConvWeight(const float* conv_weight, int64_t kernel, int64_t count, float* weight) {
  int64_t c = 0;
  if (kernel == kUsualKernel) {
    for (; c + kLanes <= count; c += kLanes) {
      F32 taps[kUsualKernel];
      for (int64_t j = 0; j < kUsualKernel; ++j) {
        taps[j] = Load(conv_weight + c * kUsualKernel + j * kLanes);
      }
      Deinterleave(taps);
      for (int64_t j = 0; j < kUsualKernel; ++j) Store(weight + j * count + c, taps[j]);
    }
  }
  for (; c < count; ++c) {
    for (int64_t j = 0; j < kernel; ++j) weight[j * count + c] = conv_weight[c * kernel + j];
  }
}

void CausalConv(
    const ConvChannels& channels, int64_t begin, int64_t num_rows, float* out, int64_t out_stride) {
  for (int64_t i = 0; i < num_rows; ++i) {
    const int64_t t = begin + i;
    const float* ahead = RowAt(channels, std::min(t + kAheadRows, begin + num_rows - 1));
    if (channels.kernel == kUsualKernel) {
      ConvRow<kUsualKernel>(channels, t, ahead, out + i * out_stride);
    } else {
      ConvRow<0>(channels, t, ahead, out + i * out_stride);
    }
  }
}

void AdvanceConvState(const ConvChannels& channels, int64_t num_rows) {
  const int64_t history = channels.kernel - 1;
  // Oldest first: row i of the new state is never below row i of the old one.
  for (int64_t i = 0; i < history; ++i) {
    std::copy_n(RowAt(channels, num_rows - history + i), channels.count,
                channels.state + i * channels.stride);
  }
}

}  // namespace deltaserve::cpu
