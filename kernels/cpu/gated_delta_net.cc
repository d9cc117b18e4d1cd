#include "kernels/cpu/gated_delta_net.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/causal_conv.h"
#include "kernels/cpu/delta_rule.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"
#include "kernels/random.h"

namespace deltaserve::cpu {
namespace {

constexpr float kL2Eps = 1e-6f;
constexpr float kSoftplusLinearAbove = 20.0f;

void CheckShapes(const GatedDeltaNetArgs& args) {
  const int64_t n = args.rows->num_rows;
  const int64_t hv = args.num_value_heads;
  const int64_t dk = args.key_head_dim;
  const int64_t dv = args.value_head_dim;
  const int64_t channels = 2 * args.num_key_heads * dk + hv * dv;
  DS_CHECK(hv % args.num_key_heads == 0) << hv << " value heads, " << args.num_key_heads << " key";
  DS_CHECK_EQ(args.qkv.numel(), n * channels);
  DS_CHECK_EQ(args.conv_weight.dim(0), channels);
  DS_CHECK_EQ(args.conv_state.dim(2), channels);
  DS_CHECK_EQ(args.conv_state.dim(1), args.conv_weight.dim(1) - 1);
  DS_CHECK(args.z.numel() == n * hv * dv && args.out.numel() == n * hv * dv) << args.z.ToString();
  DS_CHECK(args.a.numel() == n * hv && args.b.numel() == n * hv) << args.a.ToString();
  DS_CHECK(args.a_log.numel() == hv && args.dt_bias.numel() == hv) << args.a_log.ToString();
  DS_CHECK_EQ(args.norm_weight.numel(), dv);
  DS_CHECK(args.recurrent_state.dim(1) == hv && args.recurrent_state.dim(2) == dk &&
           args.recurrent_state.dim(3) == dv)
      << args.recurrent_state.ToString();
}

// x *= factor / sqrt(sum x^2 + 1e-6)
void L2Normalize(float* x, int64_t n, float factor) {
  const float scale = factor / std::sqrt(SumOfSquares(x, n) + kL2Eps);
  for (int64_t i = 0; i < n; ++i) x[i] *= scale;
}

// log(1 + e^x), x itself above 20 (specification 3.5.5).
float Softplus(float x) {
  if (!(x <= kSoftplusLinearAbove)) return x;
  const float e = Exp(x);
  if (e < 1e-8f) return e;
  return static_cast<float>(PortableLog(1.0 + static_cast<double>(e)));
}

// q and k of one row to unit length, q times dk^-0.5; g and beta of each value head.
void PrepareRow(const GatedDeltaNetArgs& args, int64_t row, float* qk, float* decay, float* beta) {
  const int64_t dk = args.key_head_dim;
  const int64_t hv = args.num_value_heads;
  const float q_scale = 1.0f / std::sqrt(static_cast<float>(dk));
  for (int64_t h = 0; h < args.num_key_heads; ++h) {
    L2Normalize(qk + h * dk, dk, q_scale);
    L2Normalize(qk + (args.num_key_heads + h) * dk, dk, 1.0f);
  }
  const float* a = args.a.as<float>() + row * hv;
  const float* b = args.b.as<float>() + row * hv;
  const float* a_log = args.a_log.as<float>();
  const float* dt_bias = args.dt_bias.as<float>();
  for (int64_t h = 0; h < hv; ++h) {
    decay[h] = -Exp(a_log[h]) * Softplus(a[h] + dt_bias[h]);
    beta[h] = Sigmoid(b[h]);
  }
}

// out = rms_norm(out) * weight * silu(z) of one head of one row.
void GateAndNorm(float* out, const float* weight, const float* z, float eps, int64_t dv) {
  NormalizeRow(out, weight, eps, dv, out);
  for (int64_t c = 0; c < dv; c += kLanes) {
    const F32 gate = Silu(LoadFirst(z + c, dv - c));
    StoreFirst(out + c, Mul(LoadFirst(out + c, dv - c), gate), dv - c);
  }
}

// What all heads share after the convolution.
struct Prepared {
  const float* qkv;    // [rows, channels]
  const float* decay;  // [rows, Hv]
  const float* beta;   // [rows, Hv]
  int64_t channels;
};

// All rows of one sequence for one value head.
void RunHead(const GatedDeltaNetArgs& args,
             const Prepared& prepared,
             int64_t sequence,
             int64_t head,
             float* scratch) {
  const RowBatch& batch = *args.rows;
  const int64_t hv = args.num_value_heads;
  const int64_t dk = args.key_head_dim;
  const int64_t dv = args.value_head_dim;
  const int64_t key_head = head / (hv / args.num_key_heads);
  const int64_t first = batch.row_begin.as<int32_t>()[sequence];
  const int64_t count = batch.row_begin.as<int32_t>()[sequence + 1] - first;
  const float* qkv = prepared.qkv + first * prepared.channels;
  float* out = args.out.as<float>() + (first * hv + head) * dv;
  const DeltaRows rows{.q = qkv + key_head * dk,
                       .k = qkv + (args.num_key_heads + key_head) * dk,
                       .v = qkv + 2 * args.num_key_heads * dk + head * dv,
                       .qkv_stride = prepared.channels,
                       .decay = prepared.decay + first * hv + head,
                       .beta = prepared.beta + first * hv + head,
                       .gate_stride = hv,
                       .out = out,
                       .out_stride = hv * dv,
                       .key_dim = dk,
                       .value_dim = dv};
  float* state = args.recurrent_state.as<float>() +
                 (batch.state.as<int32_t>()[sequence] * hv + head) * dk * dv;
  if (sequence < batch.num_decode) {
    for (int64_t r = 0; r < count; ++r) DeltaRecurrent(rows, r, state);
  } else {
    for (int64_t r = 0; r < count; r += kBlockTokens) {
      DeltaChunk(rows, r, std::min(kBlockTokens, count - r), state, scratch);
    }
  }
  const float* z = args.z.as<float>() + (first * hv + head) * dv;
  for (int64_t r = 0; r < count; ++r) {
    GateAndNorm(out + r * hv * dv, args.norm_weight.as<float>(), z + r * hv * dv, args.eps, dv);
  }
}

}  // namespace

void GatedDeltaNet(const GatedDeltaNetArgs& args, Arena& arena, ThreadPool& pool) {
  CheckShapes(args);
  const int64_t num_rows = args.rows->num_rows;
  const int64_t hv = args.num_value_heads;
  const int64_t dk = args.key_head_dim;
  const int64_t channels = args.conv_weight.dim(0);
  if (num_rows == 0) return;
  ArenaScope scope(arena);
  float* qkv = arena.Allocate(DType::kF32, {num_rows, channels}).as<float>();
  float* decay = arena.Allocate(DType::kF32, {num_rows, hv}).as<float>();
  float* beta = arena.Allocate(DType::kF32, {num_rows, hv}).as<float>();
  const int64_t per_thread = DeltaChunkScratch(dk, args.value_head_dim);
  float* scratch = arena.Allocate(DType::kF32, {pool.num_threads(), per_thread}).as<float>();

  CausalConv(args, qkv, pool);
  ParallelFor(pool, num_rows, 1, channels + 32 * hv, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      PrepareRow(args, r, qkv + r * channels, decay + r * hv, beta + r * hv);
    }
  });
  // Heads outermost: threads get equal shares of decodes and chunks.
  const Prepared prepared{qkv, decay, beta, channels};
  const int64_t sequences = args.rows->num_sequences;
  ParallelFor(pool, hv * sequences, 1, (num_rows / sequences + 1) * dk * args.value_head_dim,
              [&](int64_t begin, int64_t end, int thread) {
                for (int64_t i = begin; i < end; ++i) {
                  RunHead(args, prepared, i % sequences, i / sequences,
                          scratch + thread * per_thread);
                }
              });
}

}  // namespace deltaserve::cpu
