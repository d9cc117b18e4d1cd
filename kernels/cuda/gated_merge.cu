#include "kernels/cuda/gated_merge.h"
#include "kernels/cuda/launch.h"

namespace deltaserve::cuda {
namespace {

constexpr int kColumns = 8;  // of a lane; a warp has all of a head
constexpr int kRuns = 4;     // of parts, one a warp
constexpr int kMergeThreads = kRuns * kWarp;
constexpr int kGateThreads = 256;
static_assert(kWarp * kColumns == kHeadDim);

struct MergeArgs {
  AttentionParams p;
  Partials partials;
  const int32_t* first_partial;
  const int32_t* num_positions;
  const int32_t* part_size;
  int first_row;
};

__device__ Eight Gated(const AttentionParams& p, int64_t index, int column, Eight value) {
  const Eight gate = LoadEight(p.qg + (2 * index + 1) * kHeadDim + column);
#pragma unroll
  for (int i = 0; i < kColumns; ++i) value.x[i] *= Sigmoid(gate.x[i]);
  return value;
}

// Blocks [rows, heads]. Runs of parts are summed side by side, then the runs in order.
__global__ void __launch_bounds__(kMergeThreads) MergeRow(MergeArgs a) {
  __shared__ __align__(16) float values_of_runs[kRuns][kHeadDim];
  __shared__ float sums_of_runs[kRuns];
  const int head = static_cast<int>(blockIdx.y);
  const int row = a.first_row + static_cast<int>(blockIdx.x);
  const int sequence = a.p.row_sequence[row];
  const int part_size = *a.part_size;
  const int parts = (a.num_positions[sequence] + part_size - 1) / part_size;
  const int64_t first = a.first_partial[sequence] + int64_t{row - a.p.row_begin[sequence]} * parts;
  const float* sums = a.partials.log2_sums + first * a.p.num_heads + head;
  const bf16* values = a.partials.values + (first * a.p.num_heads + head) * kHeadDim;
  const int column = LaneId() * kColumns;

  float most = -INFINITY;
  for (int i = LaneId(); i < parts; i += kWarp)
    most = fmaxf(most, sums[int64_t{i} * a.p.num_heads]);
  most = WarpMax(most);
  const int per_run = (parts + kRuns - 1) / kRuns;
  const int end = Min((WarpId() + 1) * per_run, parts);
  Eight sum = {};
  float weights = 0;
#pragma unroll 4
  for (int i = WarpId() * per_run; i < end; ++i) {
    const float weight = Exp2(sums[int64_t{i} * a.p.num_heads] - most);
    const Eight part = LoadEight(values + int64_t{i} * a.p.num_heads * kHeadDim + column);
    weights += weight;
#pragma unroll
    for (int j = 0; j < kColumns; ++j) sum.x[j] = fmaf(weight, part.x[j], sum.x[j]);
  }
  StoreEight(&values_of_runs[WarpId()][column], sum);
  if (LaneId() == 0) sums_of_runs[WarpId()] = weights;
  __syncthreads();
  if (WarpId() != 0) return;
  Eight out = {};
  float total = 0;
#pragma unroll
  for (int run = 0; run < kRuns; ++run) {
    const Eight of_run = LoadEight(&values_of_runs[run][column]);
    total += sums_of_runs[run];
#pragma unroll
    for (int j = 0; j < kColumns; ++j) out.x[j] += of_run.x[j];
  }
#pragma unroll
  for (int j = 0; j < kColumns; ++j) out.x[j] /= total;
  const int64_t index = int64_t{row} * a.p.num_heads + head;
  StoreEight(a.p.out + index * kHeadDim + column, Gated(a.p, index, column, out));
}

// A warp a row and head.
__global__ void __launch_bounds__(kGateThreads)
    GateHeads(AttentionParams p, int64_t begin, int64_t end) {
  const int64_t index = begin + int64_t{blockIdx.x} * (kGateThreads / kWarp) + WarpId();
  if (index >= end) return;
  const int column = LaneId() * kColumns;
  bf16* out = p.out + index * kHeadDim + column;
  StoreEight(out, Gated(p, index, column, LoadEight(out)));
}

}  // namespace

void MergeGated(const AttentionParams& p,
                const PagedPart& part,
                const PagedTiles& tiles,
                const Partials& partials,
                Queue& queue) {
  Launch<&MergeRow>(
      queue, dim3(static_cast<unsigned int>(part.num_rows), static_cast<unsigned int>(p.num_heads)),
      dim3(kMergeThreads), 0,
      MergeArgs{.p = p,
                .partials = partials,
                .first_partial = tiles.first_partial,
                .num_positions = tiles.num_positions,
                .part_size = tiles.part_size,
                .first_row = static_cast<int>(part.first_row)});
}

void Gate(const AttentionParams& p, const PagedPart& part, Queue& queue) {
  const int64_t begin = part.first_row * p.num_heads;
  const int64_t end = begin + part.num_rows * p.num_heads;
  Launch<&GateHeads>(queue, dim3(Blocks(end - begin, kGateThreads / kWarp)), dim3(kGateThreads), 0,
                     p, begin, end);
}

}  // namespace deltaserve::cuda
