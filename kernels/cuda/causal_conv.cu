#include "kernels/cuda/causal_conv.h"

namespace deltaserve::cuda {
namespace {

constexpr int kConvWarps = 4;
constexpr int kTileRows = 8;      // of a warp
constexpr int kLaneChannels = 4;  // kDeltaHead / kWarp
constexpr int kAdvanceThreads = 256;

// Row `row` of a sequence that begins at row `begin`, as the convolution of its channels
// [channel, channel + 4) sees it: up to three rows before `begin` come from the state.
__device__ float4 InputRow(const DeltaParams& p, int sequence, int begin, int row, int channel) {
  if (row >= begin) return LoadBf16x4(p.qkv + int64_t{row} * p.channels + channel);
  const int64_t state_row = int64_t{p.state[sequence]} * kConvHistory + kConvHistory + row - begin;
  return LoadFloat4(p.conv_state + state_row * p.channels + channel);
}

// A warp: one head of eight rows. grid: (tiles of rows, 2 Hk + Hv).
__global__ void __launch_bounds__(kConvWarps* kWarp) ConvRows(DeltaParams p, bf16* to) {
  const int head = static_cast<int>(blockIdx.y);
  const int tile = static_cast<int>(blockIdx.x) * kConvWarps + WarpId();
  const int first = p.num_decode_rows + tile * kTileRows;
  if (first >= p.num_rows) return;  // a whole warp, and no barrier follows
  const int count = p.num_rows - first < kTileRows ? p.num_rows - first : kTileRows;
  const int channel = head * kDeltaHead + LaneId() * kLaneChannels;
  const bool is_query = head < p.num_key_heads;
  const bool is_value = head >= 2 * p.num_key_heads;

  float4 x[kTileRows];  // asked of memory before the first is used
#pragma unroll
  for (int i = 0; i < kTileRows; ++i) {
    x[i] = i < count ? LoadBf16x4(p.qkv + int64_t{first + i} * p.channels + channel)
                     : make_float4(0, 0, 0, 0);
  }
  float4 weight[kConvKernel];  // of each tap, four channels
  {
    const float4 c0 = LoadFloat4(p.conv_weight + (channel + 0) * kConvKernel);
    const float4 c1 = LoadFloat4(p.conv_weight + (channel + 1) * kConvKernel);
    const float4 c2 = LoadFloat4(p.conv_weight + (channel + 2) * kConvKernel);
    const float4 c3 = LoadFloat4(p.conv_weight + (channel + 3) * kConvKernel);
    weight[0] = make_float4(c0.x, c1.x, c2.x, c3.x);
    weight[1] = make_float4(c0.y, c1.y, c2.y, c3.y);
    weight[2] = make_float4(c0.z, c1.z, c2.z, c3.z);
    weight[3] = make_float4(c0.w, c1.w, c2.w, c3.w);
  }
  float4 before[kConvHistory];
#pragma unroll
  for (int i = 0; i < kTileRows; ++i) {
    if (i >= count) break;
    const int row = first + i;
    const int sequence = p.row_sequence[row];
    const int begin = p.row_begin[sequence];
    if (i == 0 || row == begin) {
#pragma unroll
      for (int j = 0; j < kConvHistory; ++j) {
        before[j] = InputRow(p, sequence, begin, row - kConvHistory + j, channel);
      }
    }
    float4 y = MultiplyAdd(weight[0], before[0], make_float4(0, 0, 0, 0));
    y = MultiplyAdd(weight[1], before[1], y);
    y = MultiplyAdd(weight[2], before[2], y);
    y = MultiplyAdd(weight[3], x[i], y);
    y = make_float4(Silu(y.x), Silu(y.y), Silu(y.z), Silu(y.w));
    if (!is_value) {
      const float norm = rsqrtf(WarpSum(SumOfSquares(y)) + kL2Eps);
      y = Scale(y, is_query ? norm * kQueryScale : norm);
    }
    StoreBf16x4(to + int64_t{row - p.num_decode_rows} * p.channels + channel, y);
    before[0] = before[1];
    before[1] = before[2];
    before[2] = x[i];
  }
}

// A thread: one channel of one sequence. grid: (channels, sequences).
__global__ void __launch_bounds__(kAdvanceThreads) AdvanceStates(DeltaParams p) {
  const int channel = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const auto sequence = static_cast<int64_t>(blockIdx.y);
  if (channel >= p.channels) return;
  const int begin = p.row_begin[sequence];
  const int count = p.row_begin[sequence + 1] - begin;
  float* state = p.conv_state + int64_t{p.state[sequence]} * kConvHistory * p.channels + channel;
  const bf16* x = p.qkv + int64_t{begin} * p.channels + channel;
  float newest[kConvHistory];
#pragma unroll
  for (int j = 0; j < kConvHistory; ++j) {
    const int from = j + count;  // of the state's rows and then the sequence's
    newest[j] = from < kConvHistory ? state[int64_t{from} * p.channels]
                                    : ToFloat(x[int64_t{from - kConvHistory} * p.channels]);
  }
#pragma unroll
  for (int j = 0; j < kConvHistory; ++j) state[int64_t{j} * p.channels] = newest[j];
}

}  // namespace

void CausalConv(const DeltaParams& params, bf16* to, Queue& queue) {
  const int64_t rows = params.num_rows - params.num_decode_rows;
  const int heads = 2 * params.num_key_heads + params.num_value_heads;
  Launch<&ConvRows>(
      queue, dim3(Blocks(rows, int64_t{kConvWarps} * kTileRows), static_cast<unsigned int>(heads)),
      dim3(kConvWarps * kWarp), 0, params, to);
}

void AdvanceConvState(const DeltaParams& params, Queue& queue) {
  Launch<&AdvanceStates>(queue,
                         dim3(Blocks(params.channels, kAdvanceThreads),
                              static_cast<unsigned int>(params.num_sequences)),
                         dim3(kAdvanceThreads), 0, params);
}

}  // namespace deltaserve::cuda
