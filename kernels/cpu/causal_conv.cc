#include "kernels/cpu/causal_conv.h"

#include <algorithm>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace deltaserve::cpu {
namespace {

constexpr int64_t kBlock = 64;  // channels whose weights are transposed at once

struct Channels {
  int64_t begin = 0;
  int64_t count = 0;  // at most kBlock
  int64_t total = 0;  // row stride of x, state and out
  int64_t kernel = 0;
  float weight[kMaxConvKernel][kBlock] = {};
};

// One sequence's rows, then its new state.
void ConvSequence(const Channels& ch, const float* x, int64_t num_rows, float* state, float* out) {
  const int64_t history = ch.kernel - 1;
  const auto row = [&](int64_t t) {
    return (t < 0 ? state + (t + history) * ch.total : x + t * ch.total) + ch.begin;
  };
  for (int64_t t = 0; t < num_rows; ++t) {
    for (int64_t c = 0; c < ch.count; c += kLanes) {
      const int64_t n = ch.count - c;
      F32 sum = Zero();
      for (int64_t j = 0; j <= history; ++j) {
        sum = Fma(Load(ch.weight[j] + c), LoadFirst(row(t - history + j) + c, n), sum);
      }
      StoreFirst(out + t * ch.total + ch.begin + c, Silu(sum), n);
    }
  }
  // Oldest first: row i of the new state is never below row i of the old one.
  for (int64_t i = 0; i < history; ++i) {
    std::copy_n(row(num_rows - history + i), ch.count, state + i * ch.total + ch.begin);
  }
}

}  // namespace

void CausalConv(const GatedDeltaNetArgs& args, float* out, ThreadPool& pool) {
  const RowBatch& rows = *args.rows;
  const int64_t total = args.conv_weight.dim(0);
  const int64_t kernel = args.conv_weight.dim(1);
  DS_CHECK(kernel >= 1 && kernel <= kMaxConvKernel) << "linear_conv_kernel_dim " << kernel;
  const float* weight = args.conv_weight.as<float>();
  const float* x = args.qkv.as<float>();
  float* states = args.conv_state.as<float>();
  const int32_t* row_begin = rows.row_begin.as<int32_t>();
  const int32_t* state = rows.state.as<int32_t>();
  const int64_t blocks = (total + kBlock - 1) / kBlock;
  const int64_t cost = rows.num_rows * kBlock * 2;
  ParallelFor(pool, blocks, 1, cost, [&](int64_t begin, int64_t end, int) {
    for (int64_t block = begin; block < end; ++block) {
      Channels ch{.begin = block * kBlock,
                  .count = std::min(kBlock, total - block * kBlock),
                  .total = total,
                  .kernel = kernel};
      for (int64_t c = 0; c < ch.count; ++c) {
        for (int64_t j = 0; j < kernel; ++j) {
          ch.weight[j][c] = weight[(ch.begin + c) * kernel + j];
        }
      }
      for (int64_t s = 0; s < rows.num_sequences; ++s) {
        ConvSequence(ch, x + row_begin[s] * total, row_begin[s + 1] - row_begin[s],
                     states + state[s] * (kernel - 1) * total, out + row_begin[s] * total);
      }
    }
  });
}

}  // namespace deltaserve::cpu
