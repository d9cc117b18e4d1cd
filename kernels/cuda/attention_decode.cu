// Decode: one block of threads a tile of up to 16 queries, KV head and part of the positions seen
// (flash-decoding); a second kernel merges the parts in order.

#include <algorithm>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_parts.h"
#include "kernels/cuda/launch.h"

namespace deltaserve::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kQueries = 16;
constexpr int kSlots = 3;  // two blocks fit a multiprocessor
using Ring = KvRing<kThreads, kSlots>;
constexpr int kColumns = kHeadDim / kWarps;  // of the output, a warp's
constexpr int kScoreStride = kBlock + 8;     // so that a warp's rows lie in different banks
constexpr size_t kSharedBytes = (kQueries * kRowStride + Ring::kElements) * sizeof(bf16) +
                                kQueries * kScoreStride * sizeof(float);
constexpr int kSplit = 256;  // positions; parts are whole splits
// Blocks a multiprocessor that a launch is cut into, as the lengths are not known where it is made:
// enough parts that one long sequence among short ones is shared by many.
constexpr int64_t kBlocksPerMultiprocessor = 8;
constexpr int kThreadsPerRun = kHeadDim / 4;  // four dimensions each
constexpr int kMergeRuns = kHeadDim / kThreadsPerRun;

struct DecodeParams {
  AttentionParams attention;
  int rows_per_tile;
  int heads_per_tile;
  int num_parts;  // the most that a tile has
  float* sums;    // [rows, num_heads, num_parts, kHeadDim], of weights 2^(score - max) times v
  float* maxes;   // [rows, num_heads, num_parts]
  float* totals;  // [rows, num_heads, num_parts], of weights
};

// Rows [first_row, + num_rows) of one sequence, which see positions [0, end); part i of them is
// [i part_size, (i + 1) part_size).
struct RowTile {
  int sequence;
  int first_row;
  int num_rows;
  int end;
  int part_size;

  __device__ int num_parts() const { return (end + part_size - 1) / part_size; }
};

// The tile that has `row`.
__device__ RowTile TileOf(const DecodeParams& p, int row) {
  RowTile tile;
  tile.sequence = p.attention.row_sequence[row];
  const int begin = p.attention.row_begin[tile.sequence];
  const int row_end = p.attention.row_begin[tile.sequence + 1];
  tile.first_row = row - (row - begin) % p.rows_per_tile;
  tile.num_rows = Min(p.rows_per_tile, row_end - tile.first_row);
  tile.end = p.attention.positions[tile.first_row + tile.num_rows - 1] + 1;
  const int splits = (tile.end + kSplit - 1) / kSplit;
  tile.part_size = (splits + p.num_parts - 1) / p.num_parts * kSplit;
  return tile;
}

__global__ void __launch_bounds__(kThreads, 2) AttendParts(DecodeParams params) {
  const AttentionParams& p = params.attention;
  const int group = p.num_heads / p.num_kv_heads;
  const int head_tiles = (group + params.heads_per_tile - 1) / params.heads_per_tile;
  const int row = static_cast<int>(blockIdx.y) / head_tiles;
  const RowTile tile = TileOf(params, row);
  const int part = static_cast<int>(blockIdx.x);
  const int begin = part * tile.part_size;
  // Each tile is done once, by the block of its first row.
  if (tile.first_row != row || begin >= tile.end) return;
  const int end = Min(begin + tile.part_size, tile.end);
  const int kv_head = static_cast<int>(blockIdx.z);
  const int head_in_group = static_cast<int>(blockIdx.y) % head_tiles * params.heads_per_tile;
  const int heads = Min(params.heads_per_tile, group - head_in_group);
  const int first_head = kv_head * group + head_in_group;
  const int last = tile.num_rows * heads - 1;

  bf16* q_tile = SharedMemory<bf16>();
  bf16* ring_memory = q_tile + kQueries * kRowStride;
  float* shared_scores = reinterpret_cast<float*>(ring_memory + Ring::kElements);
#pragma unroll
  for (int i = 0; i < kQueries * kPiecesPerRow / kThreads; ++i) {
    const int piece = i * kThreads + static_cast<int>(threadIdx.x);
    const int query = piece / kPiecesPerRow;
    const int64_t index = int64_t{tile.first_row + Min(query, last) / heads} * p.num_heads +
                          first_head + Min(query, last) % heads;
    const int column = piece % kPiecesPerRow * kPiece;
    CopyAsync16(q_tile + query * kRowStride + column, p.q + index * kHeadDim + column,
                query <= last);
  }
  Ring ring(p, p.slot[tile.sequence], kv_head, begin, end, ring_memory);

  // This lane's rows of the tile of scores.
  const int g = LaneId() / 4;
  const int t = LaneId() % 4;
  int position[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    position[half] = p.positions[tile.first_row + Min(g + 8 * half, last) / heads];
  }
  float out[kColumns / 8][4] = {};
  float max[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0, 0};
  for (int at = begin; at < end; at += kBlock) {
    // Scores of 16 positions a warp, which then all warps read: each has the weights of all 64.
    const bf16* k = ring.Next();
    float own[2][4] = {};
#pragma unroll
    for (int column = 0; column < kHeadDim; column += 16) {
      uint32_t a[4];
      LoadA(a, q_tile, 0, column);
      MultiplyRows(own[0], own[1], a, k, WarpId() * 16, column);
    }
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float* to = shared_scores + (g + 8 * half) * kScoreStride + WarpId() * 16 + n * 8 + 2 * t;
        *reinterpret_cast<float2*>(to) = make_float2(own[n][2 * half], own[n][2 * half + 1]);
      }
    }
    const bf16* v = ring.Next();  // its barrier shows the scores too
    float scores[kBlock / 8][4];
#pragma unroll
    for (int n = 0; n < kBlock / 8; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float2 two = *reinterpret_cast<const float2*>(
            shared_scores + (g + 8 * half) * kScoreStride + n * 8 + 2 * t);
        scores[n][2 * half] = two.x;
        scores[n][2 * half + 1] = two.y;
      }
    }
    float keep[2];
    Softmax(scores, {position[0] + 1 - at, position[1] + 1 - at}, max, sum, keep);
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) out[n][i] *= keep[i / 2];
    }
#pragma unroll
    for (int position_in_tile = 0; position_in_tile < kBlock; position_in_tile += 16) {
      uint32_t a[4];
      PackWeights(a, scores[position_in_tile / 8], scores[position_in_tile / 8 + 1]);
#pragma unroll
      for (int n = 0; n < kColumns / 8; n += 2) {
        MultiplyColumns(out[n], out[n + 1], a, v, position_in_tile, WarpId() * kColumns + n * 8);
      }
    }
  }

  const float totals[2] = {SumOfRow(sum[0]), SumOfRow(sum[1])};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = g + 8 * half;
    if (query > last) continue;
    const int64_t index =
        (int64_t{tile.first_row + query / heads} * p.num_heads + first_head + query % heads) *
            params.num_parts +
        part;
    float* to = params.sums + index * kHeadDim + WarpId() * kColumns + 2 * t;
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) {
      *reinterpret_cast<float2*>(to + n * 8) = make_float2(out[n][2 * half], out[n][2 * half + 1]);
    }
    if (WarpId() == 0 && t == 0) {
      params.maxes[index] = max[half];
      params.totals[index] = totals[half];
    }
  }
}

// A block a row and head. Runs of parts are summed side by side, then the runs in order.
__global__ void __launch_bounds__(kHeadDim) MergeParts(DecodeParams params) {
  const AttentionParams& p = params.attention;
  const int row = static_cast<int>(blockIdx.y);
  const int parts = TileOf(params, row).num_parts();
  const int64_t index = int64_t{row} * p.num_heads + blockIdx.x;
  const float* maxes = params.maxes + index * params.num_parts;
  const float* totals = params.totals + index * params.num_parts;
  __shared__ float shared[kWarp];
  __shared__ __align__(16) float sums_of_runs[kMergeRuns][kHeadDim];
  float* weights = SharedMemory<float>();  // [parts]
  const int thread = static_cast<int>(threadIdx.x);
  float max = -INFINITY;
  for (int i = thread; i < parts; i += kHeadDim) max = fmaxf(max, maxes[i]);
  max = BlockMax(max, shared);
  float total = 0;
  for (int i = thread; i < parts; i += kHeadDim) {
    weights[i] = Exp2(maxes[i] - max);
    total += weights[i] * totals[i];
  }
  total = BlockSum(total, shared);  // its barriers show the weights too

  const int parts_per_run = (parts + kMergeRuns - 1) / kMergeRuns;
  const int run = thread / kThreadsPerRun;
  const int column = thread % kThreadsPerRun * 4;
  const float* sums = params.sums + index * params.num_parts * kHeadDim + column;
  float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll 8
  for (int i = run * parts_per_run; i < Min((run + 1) * parts_per_run, parts); ++i) {
    const float4 part = *reinterpret_cast<const float4*>(sums + int64_t{i} * kHeadDim);
    sum.x = fmaf(weights[i], part.x, sum.x);
    sum.y = fmaf(weights[i], part.y, sum.y);
    sum.z = fmaf(weights[i], part.z, sum.z);
    sum.w = fmaf(weights[i], part.w, sum.w);
  }
  *reinterpret_cast<float4*>(&sums_of_runs[run][column]) = sum;
  __syncthreads();
  float out = 0;
#pragma unroll
  for (int i = 0; i < kMergeRuns; ++i) out += sums_of_runs[i][thread];
  const float gate = ToFloat(p.qg[(2 * index + 1) * kHeadDim + thread]);
  p.out[index * kHeadDim + thread] = ToBf16(out / total * Sigmoid(gate));
}

// The parts of queries that `tiles` tiles, each of all KV heads, may be cut into. As many as so
// many blocks can have: fewer rows need no more than the most rows do.
int64_t NumPartials(int64_t tiles, int64_t num_kv_heads, const Queue& queue) {
  const int64_t blocks = queue.num_multiprocessors() * kBlocksPerMultiprocessor;
  return std::max(blocks, tiles * num_kv_heads) * kQueries;
}

constexpr int64_t kPartialBytes = (kHeadDim + 2) * sizeof(float);

}  // namespace

OpScratch AttentionScratch(const OpSizes& sizes, const Queue& queue) {
  if (sizes.num_kv_heads == 0) return {};
  const int64_t group = sizes.num_heads / sizes.num_kv_heads;
  const int64_t head_tiles = (group + kQueries - 1) / kQueries;  // of a row
  const int64_t one = NumPartials(0, sizes.num_kv_heads, queue);
  const int64_t all = NumPartials(sizes.decode_rows * head_tiles, sizes.num_kv_heads, queue);
  if (all <= one) return {.fixed = one * kPartialBytes};
  return {.per_decode_row = head_tiles * sizes.num_kv_heads * kQueries * kPartialBytes};
}

void AttendDecodes(const AttentionParams& params,
                   const RowBatch& rows,
                   Arena& arena,
                   Queue& queue) {
  const int64_t n = rows.num_decode_rows;
  if (n == 0) return;
  const int64_t heads = params.num_heads;
  const int64_t kv_heads = params.num_kv_heads;
  const int64_t group = heads / kv_heads;
  const int64_t heads_per_tile = std::min<int64_t>(group, kQueries);
  const int64_t rows_per_tile = kQueries / heads_per_tile;
  const int64_t head_tiles = (group + heads_per_tile - 1) / heads_per_tile;
  const int64_t tiles = (rows.num_decode + (n - rows.num_decode) / rows_per_tile) * head_tiles;
  const int64_t most = (params.max_blocks * kBlock + kSplit - 1) / kSplit;
  const int64_t blocks = queue.num_multiprocessors() * kBlocksPerMultiprocessor;
  const int64_t parts = std::clamp<int64_t>(blocks / (tiles * kv_heads), 1, most);
  const int64_t partials = NumPartials(tiles, kv_heads, queue);
  DS_CHECK_LE(n * heads * parts, partials);

  ArenaScope scope(arena);
  const DecodeParams decode{.attention = params,
                            .rows_per_tile = static_cast<int>(rows_per_tile),
                            .heads_per_tile = static_cast<int>(heads_per_tile),
                            .num_parts = static_cast<int>(parts),
                            .sums = arena.Allocate(DType::kF32, {partials, kHeadDim}).as<float>(),
                            .maxes = arena.Allocate(DType::kF32, {partials}).as<float>(),
                            .totals = arena.Allocate(DType::kF32, {partials}).as<float>()};
  Launch<&AttendParts>(
      queue,
      dim3(static_cast<unsigned int>(parts), static_cast<unsigned int>(n * head_tiles),
           static_cast<unsigned int>(kv_heads)),
      dim3(kThreads), kSharedBytes, decode);
  Launch<&MergeParts>(queue, dim3(static_cast<unsigned int>(heads), static_cast<unsigned int>(n)),
                      dim3(kHeadDim), static_cast<size_t>(parts) * sizeof(float), decode);
}

}  // namespace deltaserve::cuda
