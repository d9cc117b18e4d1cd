#include "kernels/cpu/attention_prepare.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/norm.h"
#include "kernels/cpu/parallel.h"

namespace deltaserve::cpu {
namespace {

struct Angles {
  float cosine[kMaxRotaryDim / 2];
  float sine[kMaxRotaryDim / 2];
};

void ComputeAngles(int32_t position, const float* inv_frequency, int64_t pairs, Angles& angles) {
  for (int64_t d = 0; d < pairs; ++d) {
    const float angle = static_cast<float>(position) * inv_frequency[d];
    angles.cosine[d] = static_cast<float>(std::cos(static_cast<double>(angle)));
    angles.sine[d] = static_cast<float>(std::sin(static_cast<double>(angle)));
  }
}

// Pairs (d, d + pairs), in place.
void Rotate(const Angles& angles, int64_t pairs, float* x) {
  for (int64_t d = 0; d < pairs; ++d) {
    const float low = x[d];
    const float high = x[d + pairs];
    x[d] = low * angles.cosine[d] - high * angles.sine[d];
    x[d + pairs] = high * angles.cosine[d] + low * angles.sine[d];
  }
}

void PrepareRow(const AttentionPrepareArgs& args, int64_t row) {
  const RowBatch& rows = *args.rows;
  const int64_t hd = args.head_dim;
  const int64_t pairs = args.rotary_dim / 2;
  const int64_t position = rows.positions.as<int32_t>()[row];
  Angles angles;
  ComputeAngles(static_cast<int32_t>(position), args.inv_frequency.as<float>(), pairs, angles);
  for (int64_t h = 0; h < args.num_heads; ++h) {
    const int64_t index = row * args.num_heads + h;
    float* q = args.q_out.as<float>() + index * hd;
    NormalizeRow(args.qg.as<float>() + index * 2 * hd, args.q_norm.as<float>(), args.eps, hd, q);
    Rotate(angles, pairs, q);
  }
  const int64_t max_blocks = rows.block_table.dim(1);
  const int64_t sequence = rows.row_sequence.as<int32_t>()[row];
  const int64_t slot = rows.slot.as<int32_t>()[sequence];
  DS_CHECK_LT(position / kBlockTokens, max_blocks);
  const int64_t block = rows.block_table.as<int32_t>()[slot * max_blocks + position / kBlockTokens];
  DS_CHECK(block >= 0 && block < args.k_cache.dim(0)) << "block " << block;
  for (int64_t h = 0; h < args.num_kv_heads; ++h) {
    const int64_t from = (row * args.num_kv_heads + h) * hd;
    const int64_t to =
        ((block * args.num_kv_heads + h) * kBlockTokens + position % kBlockTokens) * hd;
    float* k = args.k_cache.as<float>() + to;
    NormalizeRow(args.k.as<float>() + from, args.k_norm.as<float>(), args.eps, hd, k);
    Rotate(angles, pairs, k);
    std::copy_n(args.v.as<float>() + from, hd, args.v_cache.as<float>() + to);
  }
}

}  // namespace

void AttentionPrepare(const AttentionPrepareArgs& args, ThreadPool& pool) {
  const int64_t n = args.rows->num_rows;
  const int64_t hd = args.head_dim;
  DS_CHECK(args.rotary_dim % 2 == 0 && args.rotary_dim <= std::min(kMaxRotaryDim, hd))
      << "rotary_dim " << args.rotary_dim;
  DS_CHECK_EQ(args.qg.numel(), n * args.num_heads * 2 * hd);
  DS_CHECK_EQ(args.q_out.numel(), n * args.num_heads * hd);
  DS_CHECK_EQ(args.inv_frequency.numel(), args.rotary_dim / 2);
  DS_CHECK(args.k.numel() == n * args.num_kv_heads * hd && args.v.numel() == args.k.numel())
      << args.k.ToString();
  DS_CHECK(args.k_cache.dim(1) == args.num_kv_heads && args.k_cache.dim(2) == kBlockTokens &&
           args.k_cache.dim(3) == hd && args.v_cache.numel() == args.k_cache.numel())
      << args.k_cache.ToString();
  const int64_t cost = (args.num_heads + 2 * args.num_kv_heads) * hd;
  ParallelFor(pool, n, 1, cost, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) PrepareRow(args, r);
  });
}

}  // namespace deltaserve::cpu
