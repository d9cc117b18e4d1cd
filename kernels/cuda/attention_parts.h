#pragma once

// What the kernels of attention share. For .cu files.
//
// A block of threads has a tile of queries (rows of one sequence times the query heads of one KV
// head, heads fastest) and runs over the cache, 64 positions at a time, K then V through a ring in
// shared memory. Tiles in shared memory are bf16 [rows, kRowStride], of which kHeadDim are in use.

#include "kernels/cuda/attention_params.h"

namespace deltaserve::cuda {

class Queue;

// The rows of sequences that decode, and those of chunks.
void AttendDecodes(const AttentionParams& params, const RowBatch& rows, Arena& arena, Queue& queue);
void AttendChunks(const AttentionParams& params, const RowBatch& rows, Queue& queue);

// Softmax is done in powers of two: scores times head_dim^-0.5 and log2(e).
inline constexpr float kScoreScale = 0.0625F * 1.44269504088896341F;

inline constexpr int kPiece = 8;  // elements in 16 bytes
inline constexpr int kPiecesPerRow = kHeadDim / kPiece;
// A piece more than a row has, so that a column of eight rows lies in all banks.
inline constexpr int kRowStride = kHeadDim + kPiece;
inline constexpr int kTileElements = kBlock * kRowStride;

// MmaBf16's a: rows [row, + 16), columns [column, + 16) of a tile.
__device__ inline void LoadA(uint32_t (&a)[4], const bf16* tile, int row, int column) {
  const int lane = LaneId();
  LoadMatrices(a, tile + (row + lane % 16) * kRowStride + column + lane / 16 * 8);
}

// Adds to d[0] and d[1] the products of a with 8 rows of a tile each, rows [row, + 16), of columns
// [column, + 16): a K^T.
__device__ inline void MultiplyRows(
    float (&d0)[4], float (&d1)[4], const uint32_t (&a)[4], const bf16* tile, int row, int column) {
  const int lane = LaneId();
  uint32_t b[4];
  LoadMatrices(b, tile + (row + lane % 8 + lane / 16 * 8) * kRowStride + column + lane / 8 % 2 * 8);
  MmaBf16(d0, a, {b[0], b[1]});
  MmaBf16(d1, a, {b[2], b[3]});
}

// Adds to d0 and d1 the products of a with rows [row, + 16) of a tile, 8 columns of [column, + 16)
// each: a V.
__device__ inline void MultiplyColumns(
    float (&d0)[4], float (&d1)[4], const uint32_t (&a)[4], const bf16* tile, int row, int column) {
  const int lane = LaneId();
  uint32_t b[4];
  LoadMatricesTransposed(b, tile + (row + lane % 16) * kRowStride + column + lane / 16 * 8);
  MmaBf16(d0, a, {b[0], b[1]});
  MmaBf16(d1, a, {b[2], b[3]});
}

// Scores of 16 queries and kTiles x 8 positions become weights 2^(score - max); what was summed
// before is multiplied by `keep`. A lane has rows g = lane / 4 (elements 0, 1) and g + 8 (2, 3), of
// which it sees columns below visible[0] and visible[1]; its sums are over its own columns.
template <int kTiles>
__device__ void Softmax(float (&scores)[kTiles][4],
                        const int (&visible)[2],
                        float (&max)[2],
                        float (&sum)[2],
                        float (&keep)[2]) {
  const int column = LaneId() % 4 * 2;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float most = max[half];
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& score = scores[n][2 * half + i];
        score = n * 8 + column + i < visible[half] ? score * kScoreScale : -INFINITY;
        most = fmaxf(most, score);
      }
    }
    most = fmaxf(most, ShuffleXor(most, 1));
    most = fmaxf(most, ShuffleXor(most, 2));
    const float finite = most == -INFINITY ? 0.0F : most;  // a row that sees nothing yet
    keep[half] = Exp2(max[half] - finite);
    max[half] = most;
    float added = 0;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& weight = scores[n][2 * half + i];
        weight = Exp2(weight - finite);
        added += weight;
      }
    }
    sum[half] = sum[half] * keep[half] + added;
  }
}

// Weights of 16 positions, two tiles of 8, as MmaBf16's a.
__device__ inline void PackWeights(uint32_t (&a)[4],
                                   const float (&low)[4],
                                   const float (&high)[4]) {
  a[0] = PackBf16(low[0], low[1]);
  a[1] = PackBf16(low[2], low[3]);
  a[2] = PackBf16(high[0], high[1]);
  a[3] = PackBf16(high[2], high[3]);
}

// The sum over the four lanes that share a row.
__device__ inline float SumOfRow(float value) {
  value += ShuffleXor(value, 1);
  return value + ShuffleXor(value, 2);
}

// Brings positions [begin, end) of one KV head of a slot to shared memory, `begin` a multiple of
// kBlock, in the order K, V of the first 64, K, V of the next 64, ... Rows past `end` are zeros:
// the cache there may hold anything.
template <int kThreads, int kSlots>
class KvRing {
 public:
  static constexpr int kElements = kSlots * kTileElements;

  // Starts the first copies. What the caller copied before belongs to the first of them.
  __device__ KvRing(
      const AttentionParams& params, int slot, int kv_head, int begin, int end, bf16* memory)
      : memory_(memory),
        k_(params.k_cache + int64_t{kv_head} * kBlock * kHeadDim),
        v_(params.v_cache + int64_t{kv_head} * kBlock * kHeadDim),
        stride_(int64_t{params.num_kv_heads} * kBlock * kHeadDim),
        blocks_(params.block_table + slot * params.max_blocks + begin / kBlock),
        num_positions_(end - begin) {
#pragma unroll
    for (int i = 0; i < kSlots - 1; ++i) Issue();
  }

  __device__ int num_tiles() const { return (num_positions_ + kBlock - 1) / kBlock; }

  // The next tile, until the next call; the whole block of threads calls it.
  __device__ const bf16* Next() {
    WaitCopies<kSlots - 2>();
    __syncthreads();  // also: nobody reads the tile before this one any more
    Issue();
    const bf16* tile = memory_ + read_ * kTileElements;
    read_ = read_ + 1 == kSlots ? 0 : read_ + 1;
    return tile;
  }

 private:
  __device__ void Issue() {
    const int index = issued_ / 2;
    const int left = num_positions_ - index * kBlock;
    if (left > 0) {
      const bf16* from = (issued_ % 2 == 0 ? k_ : v_) + blocks_[index] * stride_;
      bf16* to = memory_ + write_ * kTileElements;
#pragma unroll
      for (int i = 0; i < kBlock * kPiecesPerRow / kThreads; ++i) {
        const int piece = i * kThreads + static_cast<int>(threadIdx.x);
        const int row = piece / kPiecesPerRow;
        CopyAsync16(to + row * kRowStride + piece % kPiecesPerRow * kPiece, from + piece * kPiece,
                    row < left);
      }
    }
    CommitCopies();
    ++issued_;
    write_ = write_ + 1 == kSlots ? 0 : write_ + 1;
  }

  bf16* memory_;
  const bf16* k_;
  const bf16* v_;
  int64_t stride_;
  const int32_t* blocks_;
  int num_positions_;
  int issued_ = 0;
  int write_ = 0;
  int read_ = 0;
};

}  // namespace deltaserve::cuda
