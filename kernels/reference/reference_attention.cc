// Gated attention (specification 3.4).

#include <algorithm>
#include <cmath>

#include "kernels/reference/reference_ops.h"

namespace deltaserve::reference {
namespace {

// Element offset of a position of a KV head in a cache [blocks, heads, kBlockTokens, head_dim].
int64_t CacheOffset(
    const RowBatch& rows, int64_t slot, int64_t position, int64_t heads, int64_t head, int64_t hd) {
  const int64_t block =
      rows.block_table.as<int32_t>()[slot * rows.block_table.dim(1) + position / kBlockTokens];
  return ((block * heads + head) * kBlockTokens + position % kBlockTokens) * hd;
}

int64_t SlotOf(const RowBatch& rows, int64_t row) {
  return rows.slot.as<int32_t>()[rows.row_sequence.as<int32_t>()[row]];
}

// Norm, then rotation of pairs (d, d + rotary / 2). Angles are rounded to f32 before sine and
// cosine.
void NormAndRotate(const AttentionPrepareArgs& args,
                   const float* x,
                   const float* weight,
                   int32_t position,
                   float* out) {
  auto y = RmsNormalize(Widen(x, args.head_dim), weight, static_cast<double>(args.eps));
  const auto pairs = static_cast<size_t>(args.rotary_dim / 2);
  for (size_t d = 0; d < pairs; ++d) {
    const float angle = static_cast<float>(position) * args.inv_frequency.as<float>()[d];
    const double cosine = std::cos(static_cast<double>(angle));
    const double sine = std::sin(static_cast<double>(angle));
    const double low = y[d];
    const double high = y[d + pairs];
    y[d] = low * cosine - high * sine;
    y[d + pairs] = high * cosine + low * sine;
  }
  for (size_t d = 0; d < y.size(); ++d) out[d] = static_cast<float>(y[d]);
}

}  // namespace

void ReferenceOps::AttentionPrepare(const AttentionPrepareArgs& args) {
  const RowBatch& rows = *args.rows;
  const int64_t hd = args.head_dim;
  for (int64_t r = 0; r < rows.num_rows; ++r) {
    const int32_t position = rows.positions.as<int32_t>()[r];
    for (int64_t h = 0; h < args.num_heads; ++h) {
      const int64_t index = r * args.num_heads + h;
      NormAndRotate(args, args.qg.as<float>() + index * 2 * hd, args.q_norm.as<float>(), position,
                    args.q_out.as<float>() + index * hd);
    }
    for (int64_t h = 0; h < args.num_kv_heads; ++h) {
      const int64_t from = (r * args.num_kv_heads + h) * hd;
      const int64_t to = CacheOffset(rows, SlotOf(rows, r), position, args.num_kv_heads, h, hd);
      NormAndRotate(args, args.k.as<float>() + from, args.k_norm.as<float>(), position,
                    args.k_cache.as<float>() + to);
      std::copy_n(args.v.as<float>() + from, hd, args.v_cache.as<float>() + to);
    }
  }
}

void ReferenceOps::Attention(const AttentionArgs& args, Arena& /*arena*/) {
  const RowBatch& rows = *args.rows;
  const int64_t hd = args.head_dim;
  for (int64_t r = 0; r < rows.num_rows; ++r) {
    const int64_t visible = rows.positions.as<int32_t>()[r] + 1;
    for (int64_t h = 0; h < args.num_heads; ++h) {
      const int64_t kv_head = h / (args.num_heads / args.num_kv_heads);
      const int64_t index = r * args.num_heads + h;
      const auto q = Widen(args.q.as<float>() + index * hd, hd);
      std::vector<double> weights;
      const auto offset = [&](int64_t t) {
        return CacheOffset(rows, SlotOf(rows, r), t, args.num_kv_heads, kv_head, hd);
      };
      for (int64_t t = 0; t < visible; ++t) {
        const float* k = args.k_cache.as<float>() + offset(t);
        double score = 0;
        for (int64_t d = 0; d < hd; ++d) {
          score += q[static_cast<size_t>(d)] * static_cast<double>(k[d]);
        }
        weights.push_back(score / std::sqrt(static_cast<double>(hd)));
      }
      const double max = *std::max_element(weights.begin(), weights.end());
      double total = 0;
      for (double& w : weights) total += w = std::exp(w - max);
      for (int64_t d = 0; d < hd; ++d) {
        double sum = 0;
        for (int64_t t = 0; t < visible; ++t) {
          sum += weights[static_cast<size_t>(t)] *
                 static_cast<double>(args.v_cache.as<float>()[offset(t) + d]);
        }
        const float gate = args.qg.as<float>()[index * 2 * hd + hd + d];
        args.out.as<float>()[index * hd + d] =
            static_cast<float>(sum / total * Sigmoid(static_cast<double>(gate)));
      }
    }
  }
}

}  // namespace deltaserve::reference
