#include "kernels/cuda/delta_decode.h"

namespace deltaserve::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kWarpRows = kDeltaHead / kWarps;  // rows of the state that a warp holds
constexpr int kHeadWarps = kDeltaHead / kWarp;  // warps that hold a head, an element a thread

// One channel of the convolution as rows pass by.
class ConvChannel {
 public:
  __device__ ConvChannel(const DeltaParams& p, int64_t state, int channel)
      : weight_(LoadFloat4(p.conv_weight + channel * kConvKernel)),
        x_(p.qkv + channel),
        channels_(p.channels) {
    const float* before = p.conv_state + state * kConvHistory * channels_ + channel;
#pragma unroll
    for (int j = 0; j < kConvHistory; ++j) before_[j] = before[j * channels_];
  }

  __device__ float Next(int row) {
    const float x = ToFloat(x_[row * channels_]);
    float y = weight_.x * before_[0];
    y = fmaf(weight_.y, before_[1], y);
    y = fmaf(weight_.z, before_[2], y);
    y = fmaf(weight_.w, x, y);
    before_[0] = before_[1];
    before_[1] = before_[2];
    before_[2] = x;
    return Silu(y);
  }

 private:
  const float4 weight_;
  const bf16* const x_;
  const int64_t channels_;
  float before_[kConvHistory];
};

__device__ float SumOfFour(const float* x) { return (x[0] + x[1]) + (x[2] + x[3]); }

// A block: one value head of one sequence. grid: (Hv, num_decode). Thread t holds columns
// [4 (t % 32), + 4) of the state's rows [16 (t / 32), + 16), from the first row to the last.
__global__ void __launch_bounds__(kThreads, 2) DecodeHead(DeltaParams p) {
  alignas(16) __shared__ float q[kDeltaHead];
  alignas(16) __shared__ float k[kDeltaHead];
  alignas(16) __shared__ float delta[kDeltaHead];
  alignas(16) __shared__ float read_k[kWarps][kDeltaHead];  // parts of S^T k
  alignas(16) __shared__ float read_q[kWarps][kDeltaHead];  // parts of S^T q
  __shared__ float key_squares[kWarps];
  __shared__ float out_squares[kHeadWarps];

  const int head = static_cast<int>(blockIdx.x);
  const auto sequence = static_cast<int>(blockIdx.y);
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = WarpId();
  const int lane = LaneId();
  const int begin = p.row_begin[sequence];
  const int end = p.row_begin[sequence + 1];
  if (begin == end) return;

  const auto state_index = int64_t{p.state[sequence]};
  float* state = p.recurrent_state +
                 (state_index * p.num_value_heads + head) * kDeltaHead * kDeltaHead +
                 warp * kWarpRows * kDeltaHead + lane * 4;
  float4 s[kWarpRows];
#pragma unroll
  for (int i = 0; i < kWarpRows; ++i) {
    const uint4 bits = LoadStreaming(state + i * kDeltaHead);
    s[i] = make_float4(FloatOf(bits.x), FloatOf(bits.y), FloatOf(bits.z), FloatOf(bits.w));
  }

  // The first four warps have q, the others k, of which every value head of a key head makes its
  // own; and the first four v and what is a column's.
  const int key_head = head / (p.num_value_heads / p.num_key_heads);
  const bool has_query = warp < kHeadWarps;
  const int column = thread % kDeltaHead;
  const int value_channel = (2 * p.num_key_heads + head) * kDeltaHead + column;
  ConvChannel keys(p, state_index,
                   ((has_query ? 0 : p.num_key_heads) + key_head) * kDeltaHead + column);
  ConvChannel values(p, state_index, value_channel);
  const float norm_weight = p.norm_weight[column];

  for (int row = begin; row < end; ++row) {
    const int64_t at = int64_t{row} * p.num_value_heads + head;
    const float y = keys.Next(row);
    const float v = has_query ? values.Next(row) : 0.0F;
    const float z = has_query ? ToFloat(p.z[at * kDeltaHead + column]) : 0.0F;
    const float decay = expf(LogDecay(ToFloat(p.a[at]), p.a_log[head], p.dt_bias[head]));
    const float beta = Sigmoid(ToFloat(p.b[at]));
    const float square = WarpSum(y * y);
    if (lane == 0) key_squares[warp] = square;
    __syncthreads();
    const float norm = rsqrtf(SumOfFour(key_squares + (has_query ? 0 : kHeadWarps)) + kL2Eps);
    if (has_query) {
      q[column] = y * norm * kQueryScale;
    } else {
      k[column] = y * norm;
    }
    __syncthreads();

    // S^T k and S^T q of the state before the row. After it
    //   S = decay S + k delta^T,  S^T q = decay S^T q + (k . q) delta,
    // so that the state is gone through once for both.
    const float4 my_k = LoadFloat4(k + lane * 4);
    const float4 my_q = LoadFloat4(q + lane * 4);
    const float key_query =
        WarpSum((my_k.x * my_q.x + my_k.y * my_q.y) + (my_k.z * my_q.z + my_k.w * my_q.w));
    float4 with_k = make_float4(0, 0, 0, 0);
    float4 with_q = make_float4(0, 0, 0, 0);
#pragma unroll
    for (int i = 0; i < kWarpRows; ++i) {
      with_k = MultiplyAdd(k[warp * kWarpRows + i], s[i], with_k);
      with_q = MultiplyAdd(q[warp * kWarpRows + i], s[i], with_q);
    }
    *reinterpret_cast<float4*>(&read_k[warp][lane * 4]) = with_k;
    *reinterpret_cast<float4*>(&read_q[warp][lane * 4]) = with_q;
    __syncthreads();
    float out = 0;
    if (has_query) {
      float sum_k = 0;
      float sum_q = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) {
        sum_k += read_k[w][column];
        sum_q += read_q[w][column];
      }
      const float d = beta * (v - decay * sum_k);
      delta[column] = d;
      out = fmaf(key_query, d, decay * sum_q);
      const float out_square = WarpSum(out * out);
      if (lane == 0) out_squares[warp] = out_square;
    }
    __syncthreads();
    const float4 my_delta = LoadFloat4(delta + lane * 4);
#pragma unroll
    for (int i = 0; i < kWarpRows; ++i) {
      s[i] = MultiplyAdd(k[warp * kWarpRows + i], my_delta, Scale(s[i], decay));
    }
    if (has_query) {
      const float scale = rsqrtf(SumOfFour(out_squares) / kDeltaHead + p.eps);
      p.out[at * kDeltaHead + column] = ToBf16(out * scale * norm_weight * Silu(z));
    }
  }
#pragma unroll
  for (int i = 0; i < kWarpRows; ++i) {
    StoreStreaming(state + i * kDeltaHead,
                   make_uint4(BitsOf(s[i].x), BitsOf(s[i].y), BitsOf(s[i].z), BitsOf(s[i].w)));
  }
}

}  // namespace

void DeltaDecode(const DeltaParams& params, Queue& queue) {
  Launch<&DecodeHead>(queue,
                      dim3(static_cast<unsigned int>(params.num_value_heads),
                           static_cast<unsigned int>(params.num_decode)),
                      dim3(kThreads), 0, params);
}

}  // namespace deltaserve::cuda
