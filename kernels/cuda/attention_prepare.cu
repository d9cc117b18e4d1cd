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

__device__ uint4 Load16(const bf16* from) { return *reinterpret_cast<const uint4*>(from); }
__device__ void Store16(bf16* to, uint4 value) { *reinterpret_cast<uint4*>(to) = value; }

// A head of one warp, eight elements a lane: its norm, then rotation of pairs (d, d + 32).
__device__ uint4 NormAndRotate(
    uint4 x, const float* weight, float eps, int position, const float* inv_frequency) {
  const int lane = LaneId();
  const uint32_t packed[4] = {x.x, x.y, x.z, x.w};
  float y[kPerLane];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 two = UnpackBf16(packed[i]);
    y[2 * i] = two.x;
    y[2 * i + 1] = two.y;
  }
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) squares = fmaf(y[i], y[i], squares);
  const float scale = rsqrtf(WarpSum(squares) / kHeadDim + eps);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) y[i] *= scale * weight[lane * kPerLane + i];
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
  return uint4{PackBf16(y[0], y[1]), PackBf16(y[2], y[3]), PackBf16(y[4], y[5]),
               PackBf16(y[6], y[7])};
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
    const uint4 q = Load16(p.qg + index * 2 * kHeadDim + at);
    Store16(p.q_out + index * kHeadDim + at,
            NormAndRotate(q, p.q_norm, p.eps, position, p.inv_frequency));
    return;
  }
  head -= p.num_heads;
  const int64_t from = (row * p.num_kv_heads + head) * kHeadDim + at;
  const int64_t slot = p.slot[p.row_sequence[row]];
  const int64_t block = p.block_table[slot * p.max_blocks + position / kBlock];
  const int64_t to =
      ((block * p.num_kv_heads + head) * kBlock + position % kBlock) * kHeadDim + at;
  Store16(p.v_cache + to, Load16(p.v + from));
  Store16(p.k_cache + to,
          NormAndRotate(Load16(p.k + from), p.k_norm, p.eps, position, p.inv_frequency));
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
                             .qg = Bf16(args.qg),
                             .k = Bf16(args.k),
                             .v = Bf16(args.v),
                             .q_norm = args.q_norm.as<float>(),
                             .k_norm = args.k_norm.as<float>(),
                             .inv_frequency = args.inv_frequency.as<float>(),
                             .q_out = Bf16(args.q_out),
                             .k_cache = Bf16(args.k_cache),
                             .v_cache = Bf16(args.v_cache),
                             .positions = rows.positions.as<int32_t>(),
                             .row_sequence = rows.row_sequence.as<int32_t>(),
                             .slot = rows.slot.as<int32_t>(),
                             .block_table = rows.block_table.as<int32_t>(),
                             .max_blocks = rows.block_table.dim(1)};
  Launch<&PrepareHeads>(queue, dim3(Blocks(n * heads, kWarpsPerBlock)),
                        dim3(kWarpsPerBlock * kWarp), 0, params);
}

}  // namespace deltaserve::cuda
