// Prefill: one block of threads a tile of 128 queries and KV head, 16 queries a warp with their
// sums in registers (after FlashAttention-2, Dao 2023).

#include "kernels/cuda/attention_parts.h"
#include "kernels/cuda/launch.h"

namespace deltaserve::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr int kQueries = 16 * kWarps;
constexpr int kSlots = 4;
using Ring = KvRing<kThreads, kSlots>;
constexpr size_t kSharedBytes = (kQueries * kRowStride + Ring::kElements) * sizeof(bf16);

// Queries [first, first + kQueries) of the rows of a chunk; those past the last are not there.
struct ChunkTile {
  int sequence;
  int first;
};

// Tile `tile` of the chunks [first_sequence, num_sequences), in their order. `sequence` is
// num_sequences where there is none. Every warp does all of it.
__device__ ChunkTile
FindTile(const AttentionParams& p, int first_sequence, int num_sequences, int group, int tile) {
  for (int base = first_sequence; base < num_sequences; base += kWarp) {
    const int s = base + LaneId();
    const int rows = s < num_sequences ? p.row_begin[s + 1] - p.row_begin[s] : 0;
    const int tiles = (rows * group + kQueries - 1) / kQueries;
    int end = tiles;  // of the tiles of this chunk and of those before it from `base`
#pragma unroll
    for (int delta = 1; delta < kWarp; delta *= 2) {
      const int before = ShuffleUp(end, delta);
      if (LaneId() >= delta) end += before;
    }
    // The chunks that end at or before the tile are those before its own.
    int before = 0;
    const uint32_t after = Ballot(end > tile);
    if (after != 0) {
      while ((after >> before & 1U) == 0) ++before;
      return {base + before, (tile - Shuffle(end - tiles, before)) * kQueries};
    }
    tile -= Shuffle(end, kWarp - 1);
  }
  return {num_sequences, 0};
}

__global__ void __launch_bounds__(kThreads, 1)
    AttendTiles(AttentionParams p, int first_sequence, int num_sequences) {
  const int group = p.num_heads / p.num_kv_heads;
  const int kv_head = static_cast<int>(blockIdx.y);
  // The last tiles see the most positions: they go first.
  const ChunkTile tile = FindTile(p, first_sequence, num_sequences, group,
                                  static_cast<int>(gridDim.x - 1 - blockIdx.x));
  if (tile.sequence == num_sequences) return;
  const int first_row = p.row_begin[tile.sequence];
  const int num_queries = (p.row_begin[tile.sequence + 1] - first_row) * group;
  const int last = Min(tile.first + kQueries, num_queries) - 1;
  const int end = p.positions[first_row + last / group] + 1;

  bf16* q_tile = SharedMemory<bf16>();
#pragma unroll
  for (int i = 0; i < kQueries * kPiecesPerRow / kThreads; ++i) {
    const int piece = i * kThreads + static_cast<int>(threadIdx.x);
    const int query = tile.first + piece / kPiecesPerRow;
    const int64_t row = first_row + Min(query, last) / group;
    const int head = kv_head * group + Min(query, last) % group;
    const int column = piece % kPiecesPerRow * kPiece;
    CopyAsync16(q_tile + piece / kPiecesPerRow * kRowStride + column,
                p.q + (row * p.num_heads + head) * kHeadDim + column, query <= last);
  }
  Ring ring(p, p.slot[tile.sequence], kv_head, 0, end, q_tile + kQueries * kRowStride);

  // What this warp's queries see, none where it has none.
  const int warp_first = tile.first + WarpId() * 16;
  const int warp_end =
      warp_first > last ? 0 : p.positions[first_row + Min(warp_first + 15, last) / group] + 1;
  // This lane's rows of the tile of scores: queries g and g + 8 of its warp.
  const int query = warp_first + LaneId() / 4;
  int position[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    position[half] = p.positions[first_row + Min(query + 8 * half, last) / group];
  }
  float out[kHeadDim / 8][4] = {};
  float max[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0, 0};
  for (int begin = 0; begin < end; begin += kBlock) {
    const bf16* k = ring.Next();
    float scores[kBlock / 8][4] = {};
    if (begin < warp_end) {
#pragma unroll 4
      for (int column = 0; column < kHeadDim; column += 16) {
        uint32_t a[4];
        LoadA(a, q_tile, WarpId() * 16, column);
#pragma unroll
        for (int n = 0; n < kBlock / 8; n += 2) {
          MultiplyRows(scores[n], scores[n + 1], a, k, n * 8, column);
        }
      }
      float keep[2];
      Softmax(scores, {position[0] + 1 - begin, position[1] + 1 - begin}, max, sum, keep);
      if (AnyLane(keep[0] != 1.0F || keep[1] != 1.0F)) {
#pragma unroll
        for (int n = 0; n < kHeadDim / 8; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) out[n][i] *= keep[i / 2];
        }
      }
    }
    const bf16* v = ring.Next();
    if (begin < warp_end) {
#pragma unroll
      for (int row = 0; row < kBlock; row += 16) {
        uint32_t a[4];
        PackWeights(a, scores[row / 8], scores[row / 8 + 1]);
#pragma unroll
        for (int n = 0; n < kHeadDim / 8; n += 2) {
          MultiplyColumns(out[n], out[n + 1], a, v, row, n * 8);
        }
      }
    }
  }

  const float scales[2] = {1.0F / SumOfRow(sum[0]), 1.0F / SumOfRow(sum[1])};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float scale = scales[half];
    const int m = query + 8 * half;
    if (m > last) continue;
    const int64_t row = first_row + m / group;
    const int64_t index = row * p.num_heads + kv_head * group + m % group;
    const bf16* gate = p.qg + (2 * index + 1) * kHeadDim;
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; ++n) {
      const int column = n * 8 + LaneId() % 4 * 2;
      const float2 closed = UnpackBf16(*reinterpret_cast<const uint32_t*>(gate + column));
      *reinterpret_cast<uint32_t*>(p.out + index * kHeadDim + column) =
          PackBf16(out[n][2 * half] * scale * Sigmoid(closed.x),
                   out[n][2 * half + 1] * scale * Sigmoid(closed.y));
    }
  }
}

}  // namespace

void AttendChunks(const AttentionParams& params, const RowBatch& rows, Queue& queue) {
  const int64_t chunks = rows.num_sequences - rows.num_decode;
  if (chunks == 0) return;
  const int64_t group = params.num_heads / params.num_kv_heads;
  const int64_t queries = (rows.num_rows - rows.num_decode_rows) * group;
  // The most that so many chunks with so many queries can have: one each, and one for every
  // further kQueries. Where there are fewer, blocks return at once.
  const int64_t tiles = chunks + (queries - chunks) / kQueries;
  Launch<&AttendTiles>(
      queue, dim3(static_cast<unsigned int>(tiles), static_cast<unsigned int>(params.num_kv_heads)),
      dim3(kThreads), kSharedBytes, params, static_cast<int>(rows.num_decode),
      static_cast<int>(rows.num_sequences));
}

}  // namespace deltaserve::cuda
