#include "kernels/cuda/attention_prepare.h"
#include "kernels/cuda/attention_sizes.h"
#include "kernels/cuda/launch.h"

namespace deltaserve::cuda {
namespace {

constexpr int kWarpsPerBlock = 4;
constexpr int kPerLane = kHeadDim / kWarp;  // 16 bytes of bf16
constexpr int kRotaryDim = 64;
constexpr int kLanesOfHalf = kRotaryDim / 2 / kPerLane;  // that hold the first of each pair
static_assert(kPerLane == 8 && kRotaryDim / 2 == kWarp, "a lane has 16 bytes, and one angle");

struct PrepareParams {
  int64_t num_rows;
  int num_heads;
  int num_kv_heads;
  float eps;
  const bf16* qg;
  const bf16* k;
  const bf16* v;
  const float* q_norm;
  const float* k_norm;
  const float* inv_frequency;
  bf16* q_out;
  bf16* k_cache;
  bf16* v_cache;
  const int32_t* positions;
  const int32_t* row_sequence;
  const int32_t* slot;
  const int32_t* block_table;
  int64_t max_blocks;
};

// A head of one warp, eight elements a lane: its norm, then rotation of pairs (d, d + 32).
__device__ Eight NormAndRotate(
    Eight head, const float* weight, float eps, int position, const float* inv_frequency) {
  const int lane = LaneId();
  float(&y)[kPerLane] = head.x;
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) squares = fmaf(y[i], y[i], squares);
  const float scale = rsqrtf(WarpSum(squares) / kHeadDim + eps);
  const Eight weights = LoadEight(weight + lane * kPerLane);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) y[i] *= scale * weights.x[i];
  const float angle = static_cast<float>(position) * inv_frequency[lane];
  const float cosine = cosf(angle);
  const float sine = sinf(angle);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int pair = lane % kLanesOfHalf * kPerLane + i;
    const float c = Shuffle(cosine, pair);
    const float s = Shuffle(sine, pair);
    const float other = ShuffleXor(y[i], kLanesOfHalf);
    if (lane < kLanesOfHalf) {
      y[i] = y[i] * c - other * s;
    } else if (lane < 2 * kLanesOfHalf) {
      y[i] = y[i] * c + other * s;
    }
  }
  return head;
}

// One warp a row and head: the query heads, then the KV heads.
__global__ void PrepareHeads(PrepareParams p) {
  const int64_t item = int64_t{blockIdx.x} * kWarpsPerBlock + WarpId();
  const int heads = p.num_heads + p.num_kv_heads;
  const int64_t row = item / heads;
  if (row >= p.num_rows) return;
  int head = static_cast<int>(item % heads);
  const int at = LaneId() * kPerLane;
  const int position = p.positions[row];
  if (head < p.num_heads) {
    const int64_t index = row * p.num_heads + head;
    const Eight q = LoadEight(p.qg + index * 2 * kHeadDim + at);
    StoreEight(p.q_out + index * kHeadDim + at,
               NormAndRotate(q, p.q_norm, p.eps, position, p.inv_frequency));
    return;
  }
  head -= p.num_heads;
  const int64_t from = (row * p.num_kv_heads + head) * kHeadDim + at;
  const int64_t slot = p.slot[p.row_sequence[row]];
  const int64_t block = p.block_table[slot * p.max_blocks + position / kBlock];
  const int64_t to = ((block * p.num_kv_heads + head) * kBlock + position % kBlock) * kHeadDim + at;
  StoreEight(p.v_cache + to, LoadEight(p.v + from));
  StoreEight(p.k_cache + to,
             NormAndRotate(LoadEight(p.k + from), p.k_norm, p.eps, position, p.inv_frequency));
}

}  // namespace

void AttentionPrepare(const AttentionPrepareArgs& args, Queue& queue) {
  const RowBatch& rows = *args.rows;
  const int64_t n = rows.num_rows;
  DS_CHECK_EQ(args.head_dim, kHeadDim);
  DS_CHECK_EQ(args.rotary_dim, kRotaryDim);
  DS_CHECK_EQ(args.qg.numel(), n * args.num_heads * 2 * kHeadDim);
  DS_CHECK_EQ(args.q_out.numel(), n * args.num_heads * kHeadDim);
  DS_CHECK_EQ(args.inv_frequency.numel(), kRotaryDim / 2);
  DS_CHECK(args.k.numel() == n * args.num_kv_heads * kHeadDim && args.v.numel() == args.k.numel())
      << args.k.ToString();
  CheckCache(args.k_cache, args.v_cache, args.num_kv_heads);
  const int64_t heads = args.num_heads + args.num_kv_heads;
  const PrepareParams params{.num_rows = n,
                             .num_heads = static_cast<int>(args.num_heads),
                             .num_kv_heads = static_cast<int>(args.num_kv_heads),
                             .eps = args.eps,
                             .qg = AlignedBf16Of(args.qg),
                             .k = AlignedBf16Of(args.k),
                             .v = AlignedBf16Of(args.v),
                             .q_norm = args.q_norm.as<float>(),
                             .k_norm = args.k_norm.as<float>(),
                             .inv_frequency = args.inv_frequency.as<float>(),
                             .q_out = AlignedBf16Of(args.q_out),
                             .k_cache = AlignedBf16Of(args.k_cache),
                             .v_cache = AlignedBf16Of(args.v_cache),
                             .positions = rows.positions.as<int32_t>(),
                             .row_sequence = rows.row_sequence.as<int32_t>(),
                             .slot = rows.slot.as<int32_t>(),
                             .block_table = rows.block_table.as<int32_t>(),
                             .max_blocks = rows.block_table.dim(1)};
  Launch<&PrepareHeads>(queue, dim3(Blocks(n * heads, kWarpsPerBlock)),
                        dim3(kWarpsPerBlock * kWarp), 0, params);
}

}  // namespace deltaserve::cuda
