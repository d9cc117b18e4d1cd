// A block makes a tile of one expert: kRows pairs by kTileColumns rows of its weight, over the
// depth in steps of kStepDepth that a ring of kStages brings to shared memory. A row of a step is
// 128 bytes; its 16-byte pieces are swapped about by the row's number, so that neither copies nor
// reads of 8 x 8 matrices meet in a bank.

#include <algorithm>

#include "kernels/cuda/grouped_products.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/vectors.h"

namespace deltaserve::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kTileColumns = 128;
constexpr int kStepDepth = 64;
constexpr int kPiece = 8;  // elements of 16 bytes
constexpr int kPieces = kStepDepth / kPiece;
constexpr int kRowsPerPass = kThreads / kPieces;  // rows of a step that the block copies at once

// How a tile is shared among warps, by its rows.
template <int kRows>
struct Shape {
  static constexpr int kWarpRows = kRows == kManyTileRows ? 64 : 32;
  static constexpr int kWarpColumns = kTileColumns * kRows / kWarpRows / kWarps;
  static constexpr int kColumnWarps = kTileColumns / kWarpColumns;
  static constexpr int kStages = kRows == kManyTileRows ? 3 : 4;
  static constexpr int kStageSize = (kRows + kTileColumns) * kStepDepth;  // elements
  static constexpr size_t kSharedBytes = size_t{kStages} * kStageSize * sizeof(bf16);
  static constexpr int kRowTiles = kWarpRows / 16;       // of the matrix instruction
  static constexpr int kColumnTiles = kWarpColumns / 8;  // likewise
};

struct ProductArgs {
  const int32_t* pairs;
  const ExpertTile* tiles;
  const int32_t* num_tiles;
  const bf16* x;       // [*, depth]
  const bf16* weight;  // [experts, columns (twice that for gate and up), depth]
  bf16* out;           // [*, columns]
  int32_t depth;
  int32_t columns;
  int32_t top_k;
};

__device__ void StorePair(bf16* to, float low, float high) {
  *reinterpret_cast<uint32_t*>(to) = PackBf16(low, high);
}

// The gate and up product: rows of x are gathered, results are written in the order of pairs. A
// tile's weight rows are 8 of gate, 8 of up and so on: both of a column come out in one lane.
struct GateUp {
  static constexpr int kColumns = kTileColumns / 2;
  static __device__ int SourceRow(const ProductArgs& a, int position) {
    return a.pairs[position] / a.top_k;
  }
  static __device__ int Column(int tile_row) { return tile_row / 16 * 8 + tile_row % 8; }
  static __device__ int64_t WeightRow(const ProductArgs& a, int expert, int column, int tile_row) {
    return (int64_t{2} * expert + tile_row / 8 % 2) * a.columns + column;
  }
  static __device__ int64_t OutRow(const ProductArgs& /*a*/, int position) { return position; }
  // The lane's columns of a row from the `half` of its products that is the row's.
  template <int kTiles>
  static __device__ void StoreRow(const ProductArgs& a,
                                  bf16* out,
                                  int tile_column,
                                  int first_column,
                                  int half,
                                  const float (&d)[kTiles][4]) {
#pragma unroll
    for (int j = 0; j < kTiles; j += 2) {
      const int column = tile_column + (first_column + j * 8) / 2 + LaneId() % 4 * 2;
      if (column >= a.columns) continue;
      const float(&gate)[4] = d[j];
      const float(&up)[4] = d[j + 1];
      StorePair(out + column, Silu(gate[2 * half]) * up[2 * half],
                Silu(gate[2 * half + 1]) * up[2 * half + 1]);
    }
  }
};

// The down product: rows of x are in the order of pairs, results are scattered.
struct Down {
  static constexpr int kColumns = kTileColumns;
  static __device__ int SourceRow(const ProductArgs& /*a*/, int position) { return position; }
  static __device__ int Column(int tile_row) { return tile_row; }
  static __device__ int64_t WeightRow(const ProductArgs& a,
                                      int expert,
                                      int column,
                                      int /*tile_row*/) {
    return static_cast<int64_t>(expert) * a.columns + column;
  }
  static __device__ int64_t OutRow(const ProductArgs& a, int position) { return a.pairs[position]; }
  template <int kTiles>
  static __device__ void StoreRow(const ProductArgs& a,
                                  bf16* out,
                                  int tile_column,
                                  int first_column,
                                  int half,
                                  const float (&d)[kTiles][4]) {
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      const int column = tile_column + first_column + j * 8 + LaneId() % 4 * 2;
      if (column < a.columns) StorePair(out + column, d[j][2 * half], d[j][2 * half + 1]);
    }
  }
};

// Element of a piece in a stage's rows of 64.
__device__ int PieceAt(int row, int piece) {
  return row * kStepDepth + (piece ^ (row % kPieces)) * kPiece;
}

// What one thread copies of each step: a piece of every kRowsPerPass-th row.
template <typename Product, int kRows>
class Loader {
 public:
  __device__ Loader(const ProductArgs& a, const ExpertTile& tile, int tile_column) {
#pragma unroll
    for (int i = 0; i < kXPasses; ++i) {
      const int row = FirstRow() + i * kRowsPerPass;
      x_row_[i] = row < tile.count ? Product::SourceRow(a, tile.begin + row) : -1;
    }
    column_ = tile_column + Product::Column(FirstRow());
    weight_ = a.weight + Product::WeightRow(a, tile.expert, column_, FirstRow()) * a.depth;
  }

  // Zeros beyond the tile's rows, the columns and the depth.
  __device__ void Copy(const ProductArgs& a, int step, bf16* stage) const {
    const int k = step * kStepDepth + Piece() * kPiece;
    const bool inside = k < a.depth;
    bf16* to = stage + PieceAt(FirstRow(), Piece());
#pragma unroll
    for (int i = 0; i < kXPasses; ++i, to += kRowsPerPass * kStepDepth) {
      CopyAsync16(to, a.x + (static_cast<int64_t>(x_row_[i]) * a.depth + k),
                  inside && x_row_[i] >= 0);
    }
#pragma unroll
    for (int i = 0; i < kWeightPasses; ++i, to += kRowsPerPass * kStepDepth) {
      CopyAsync16(to, weight_ + (static_cast<int64_t>(i * kColumnsPerPass) * a.depth + k),
                  inside && column_ + i * kColumnsPerPass < a.columns);
    }
  }

 private:
  static constexpr int kXPasses = kRows / kRowsPerPass;
  static constexpr int kWeightPasses = kTileColumns / kRowsPerPass;
  static constexpr int kColumnsPerPass = Product::kColumns / kWeightPasses;

  static __device__ int FirstRow() { return static_cast<int>(threadIdx.x) / kPieces; }
  static __device__ int Piece() { return static_cast<int>(threadIdx.x) % kPieces; }

  int x_row_[kXPasses];  // -1: none
  int column_;           // that of the first weight row
  const bf16* weight_;
};

// d += x W^T over one stage, the warp's part from `first_row` and `first_column` of the tile.
template <typename S, int kRows>
__device__ void MultiplyStage(const bf16* stage,
                              int first_row,
                              int first_column,
                              float (&d)[S::kRowTiles][S::kColumnTiles][4]) {
  const int lane = LaneId();
  const int a_at = PieceAt(first_row + lane % 16, lane / 16);
  const int b_at = PieceAt(kRows + first_column + lane / 16 * 8 + lane % 8, lane / 8 % 2);
#pragma unroll
  for (int k = 0; k < kPieces; k += 2) {
    // Two pieces on is a bit of the piece's number, before the swap and after.
    const bf16* const a_k = stage + (a_at ^ (k * kPiece));
    const bf16* const b_k = stage + (b_at ^ (k * kPiece));
    uint32_t b[S::kColumnTiles / 2][4];
#pragma unroll
    for (int j = 0; j < S::kColumnTiles / 2; ++j) LoadMatrices(b[j], b_k + j * 16 * kStepDepth);
#pragma unroll
    for (int i = 0; i < S::kRowTiles; ++i) {
      uint32_t a[4];
      LoadMatrices(a, a_k + i * 16 * kStepDepth);
#pragma unroll
      for (int j = 0; j < S::kColumnTiles / 2; ++j) {
        MmaBf16(d[i][2 * j], a, {b[j][0], b[j][1]});
        MmaBf16(d[i][2 * j + 1], a, {b[j][2], b[j][3]});
      }
    }
  }
}

// The warp's part of a tile; columns count from the tile's first.
template <typename Product, typename S>
__device__ void Store(const ProductArgs& a,
                      const ExpertTile& tile,
                      int first_row,
                      int first_column,
                      int tile_column,
                      const float (&d)[S::kRowTiles][S::kColumnTiles][4]) {
#pragma unroll
  for (int i = 0; i < S::kRowTiles; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first_row + i * 16 + half * 8 + LaneId() / 4;
      if (row >= tile.count) continue;
      const int64_t out_row = Product::OutRow(a, tile.begin + row);
      Product::StoreRow(a, a.out + out_row * a.columns, tile_column, first_column, half, d[i]);
    }
  }
}

// Blocks [tiles, columns of tiles]: tiles go with the rows of a step, of which x takes any number.
// Those beyond num_tiles have nothing to do.
template <typename Product, int kRows>
__global__ void __launch_bounds__(kThreads, 2) ProductKernel(ProductArgs a) {
  using S = Shape<kRows>;
  const int tile_index = static_cast<int>(blockIdx.x);
  if (tile_index >= *a.num_tiles) return;
  const ExpertTile tile = a.tiles[tile_index];
  const int tile_column = static_cast<int>(blockIdx.y) * Product::kColumns;
  bf16* const ring = SharedMemory<bf16>();
  const Loader<Product, kRows> loader(a, tile, tile_column);
  const int first_row = WarpId() / S::kColumnWarps * S::kWarpRows;
  const int first_column = WarpId() % S::kColumnWarps * S::kWarpColumns;
  const bool has_rows = first_row < tile.count;
  const int steps = (a.depth + kStepDepth - 1) / kStepDepth;

  float d[S::kRowTiles][S::kColumnTiles][4] = {};
#pragma unroll
  for (int step = 0; step < S::kStages - 1; ++step) {
    if (step < steps) loader.Copy(a, step, ring + step * S::kStageSize);
    CommitCopies();
  }
  int stage = 0;
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    WaitCopies<S::kStages - 2>();
    __syncthreads();  // all copies of `stage` are there, and all have read the stage before it
    const int ahead = step + S::kStages - 1;
    if (ahead < steps) {
      const int free_stage = stage == 0 ? S::kStages - 1 : stage - 1;
      loader.Copy(a, ahead, ring + free_stage * S::kStageSize);
    }
    CommitCopies();
    if (has_rows) {
      MultiplyStage<S, kRows>(ring + stage * S::kStageSize, first_row, first_column, d);
    }
    stage = stage + 1 == S::kStages ? 0 : stage + 1;
  }
  if (has_rows) Store<Product, S>(a, tile, first_row, first_column, tile_column, d);
}

template <typename Product, int kRows>
void LaunchTiles(const ExpertGroups& groups, const ProductArgs& args, Queue& queue) {
  Launch<&ProductKernel<Product, kRows>>(
      queue,
      dim3(static_cast<unsigned int>(groups.max_tiles), Blocks(args.columns, Product::kColumns)),
      dim3(kThreads), Shape<kRows>::kSharedBytes, args);
}

template <typename Product>
void LaunchProduct(const ExpertGroups& groups,
                   int64_t tile_rows,
                   const ProductArgs& args,
                   Queue& queue) {
  if (tile_rows == kManyTileRows) {
    LaunchTiles<Product, kManyTileRows>(groups, args, queue);
  } else {
    LaunchTiles<Product, kFewTileRows>(groups, args, queue);
  }
}

}  // namespace

int64_t ChooseTileRows(int64_t pairs, int64_t num_experts) {
  return pairs >= num_experts * kManyTileRows / 2 ? kManyTileRows : kFewTileRows;
}

void GroupedGateUp(const ExpertGroups& groups,
                   int64_t tile_rows,
                   const CudaExpertWeights& weights,
                   const TensorView& x,
                   int64_t top_k,
                   const TensorView& act,
                   Queue& queue) {
  const ProductArgs args = {.pairs = groups.pairs,
                            .tiles = groups.tiles,
                            .num_tiles = groups.num_tiles,
                            .x = Bf16Of(x),
                            .weight = static_cast<const bf16*>(weights.gate_up()),
                            .out = Bf16Of(act),
                            .depth = static_cast<int32_t>(weights.hidden()),
                            .columns = static_cast<int32_t>(weights.width()),
                            .top_k = static_cast<int32_t>(top_k)};
  LaunchProduct<GateUp>(groups, tile_rows, args, queue);
}

void GroupedDown(const ExpertGroups& groups,
                 int64_t tile_rows,
                 const CudaExpertWeights& weights,
                 const TensorView& act,
                 const TensorView& y,
                 Queue& queue) {
  const ProductArgs args = {.pairs = groups.pairs,
                            .tiles = groups.tiles,
                            .num_tiles = groups.num_tiles,
                            .x = Bf16Of(act),
                            .weight = static_cast<const bf16*>(weights.down()),
                            .out = Bf16Of(y),
                            .depth = static_cast<int32_t>(weights.width()),
                            .columns = static_cast<int32_t>(weights.hidden()),
                            .top_k = 1};
  LaunchProduct<Down>(groups, tile_rows, args, queue);
}

}  // namespace deltaserve::cuda
