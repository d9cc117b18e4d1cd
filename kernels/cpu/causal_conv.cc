#include "kernels/cpu/causal_conv.h"

#include <algorithm>

#include "kernels/cpu/simd.h"

namespace deltaserve::cpu {
namespace {

constexpr int64_t kUsualKernel = 4;  // of all published models
constexpr int kVectors = kRegisters == 32 ? 4 : 2;
constexpr int64_t kAheadRows = 4;  // rows that are asked of memory before they are read

// Row t, which may be one of the state's.
const float* RowAt(const ConvChannels& ch, int64_t t) {
  return t < 0 ? ch.state + (t + ch.kernel - 1) * ch.stride : ch.x + t * ch.stride;
}

// The sum over the taps of the lanes from channel c on. kTaps: the kernel, or 0 for any.
template <int64_t kTaps, typename LoadLanes>
F32 Convolve(const ConvChannels& ch, const float* const* rows, int64_t c, LoadLanes&& load) {
  const int64_t taps = kTaps == 0 ? ch.kernel : kTaps;
  F32 sum = Zero();
#pragma GCC unroll 4
  for (int64_t j = 0; j < taps; ++j) {
    sum = Fma(load(ch.weight + j * ch.count + c), load(rows[j] + c), sum);
  }
  return sum;
}

template <int64_t kTaps>
void ConvRow(const ConvChannels& ch, int64_t t, const float* ahead, float* out) {
  const float* rows[kMaxConvKernel];
  for (int64_t j = 0; j < ch.kernel; ++j) rows[j] = RowAt(ch, t - (ch.kernel - 1) + j);
  int64_t c = 0;
  for (; c + kVectors * kLanes <= ch.count; c += kVectors * kLanes) {
    F32 sum[kVectors];
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      __builtin_prefetch(ahead + c + i * kLanes);
      sum[i] = Convolve<kTaps>(ch, rows, c + i * kLanes, [](const float* p) { return Load(p); });
    }
    SiluEach(sum);
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) Store(out + c + i * kLanes, sum[i]);
  }
  for (; c < ch.count; c += kLanes) {
    const auto load = [n = ch.count - c](const float* p) { return LoadFirst(p, n); };
    StoreFirst(out + c, Silu(Convolve<kTaps>(ch, rows, c, load)), ch.count - c);
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
