// Both products have the weights' rows as the rows of the matrix instruction and the batch's rows
// as its columns. A lane reads 16 bytes (8 elements) of a weight's row and of a batch row at the
// same depth, and these are elements of two instructions: the order of the depth within 32 does not
// matter as long as both operands have it. A batch row that has not chosen the expert stands for
// another one that has; its column of the result is dropped.

#include <algorithm>

#include "kernels/cuda/few_rows_experts.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/route_experts.h"
#include "kernels/cuda/vectors.h"

namespace deltaserve::cuda {
namespace {

constexpr int kStepDepth = 32;  // of two matrix instructions
constexpr int kColumns = 8;     // batch rows of one instruction
constexpr int kGateUpWarps = 8;
constexpr int kGateUpWidth =
    8;                         // columns of the width a block makes: their gate and up rows are 16
constexpr int kDownRows = 16;  // columns of the hidden size a block makes
constexpr int kMaxDownWarps = 16;

struct FewRowsArgs {
  int32_t rows;
  int32_t top_k;
  int32_t hidden;
  int32_t width;
  int32_t first_expert;
  int32_t num_experts;      // held here
  const int32_t* experts;   // [rows, top_k]
  const float* weights;     // [rows, top_k]
  const bf16* x;            // [rows, hidden]
  const bf16* gate_up;      // [num_experts, 2 width, hidden]
  const bf16* down;         // [num_experts, hidden, width]
  bf16* act;                // [rows, top_k, width]
  const bf16* shared;       // [rows, hidden] or null
  const bf16* shared_gate;  // [rows]
  bf16* out;                // [rows, hidden]
};

// The pair by which a row chose an expert, -1 if it did not or is beyond the batch.
__device__ int PairOf(const FewRowsArgs& a, int row, int expert) {
  int found = -1;
  if (row >= a.rows) return found;
  const int first = row * a.top_k;
#pragma unroll 4
  for (int pair = first; pair < first + a.top_k; ++pair) {
    if (a.experts[pair] == expert) found = pair;
  }
  return found;
}

// The pairs of an expert: of batch row lane / 4 + 8 i in pairs[i]. False where `pair` is not the
// first of them: then another warp or block does that expert. The whole warp calls it.
template <int kTiles>
__device__ bool PairsOfExpert(const FewRowsArgs& a, int pair, int (&pairs)[kTiles]) {
  const int expert = a.experts[pair];
  bool earlier = false;
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
    pairs[i] = PairOf(a, LaneId() / 4 + kColumns * i, expert);
    earlier = earlier || (pairs[i] >= 0 && pairs[i] < pair);
  }
  return !AnyLane(earlier);
}

__device__ bool HeldHere(const FewRowsArgs& a, int pair) {
  const int expert = a.experts[pair] - a.first_expert;
  return expert >= 0 && expert < a.num_experts;
}

// What a lane reads of kStepDepth elements of the depth.
template <int kTiles>
struct Step {
  uint4 low;
  uint4 high;
  uint4 columns[kTiles];
};

// The rows that a lane reads: lane / 4 and lane / 4 + 8 of the weights, lane / 4 + 8 i of the
// batch.
template <int kTiles>
struct LaneRows {
  const bf16* weights;  // of the first row
  const bf16* batch;
  int to_high;          // from the first weights' row to the second
  int columns[kTiles];  // from `batch`

  __device__ Step<kTiles> Load(int k) const {
    Step<kTiles> step;
    step.low = LoadStreaming(weights + k);
    step.high = LoadStreaming(weights + (to_high + k));
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      step.columns[i] = *reinterpret_cast<const uint4*>(batch + (columns[i] + k));
    }
    return step;
  }
};

template <int kTiles>
__device__ void MultiplyStep(const Step<kTiles>& step, float (&d)[kTiles][4]) {
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
    const uint4& column = step.columns[i];
    MmaBf16(d[i], {step.low.x, step.high.x, step.low.y, step.high.y}, {column.x, column.y});
    MmaBf16(d[i], {step.low.z, step.high.z, step.low.w, step.high.w}, {column.z, column.w});
  }
}

// d[i] += W X^T for 16 rows of W and 8 of X, all [depth]. Steps of the depth are first_step,
// first_step + stride, ...; the loads of kUnroll of them are under way together.
template <int kUnroll, int kTiles>
__device__ void MultiplyFewRows(
    const LaneRows<kTiles>& rows, int depth, int first_step, int stride, float (&d)[kTiles][4]) {
  const int at = LaneId() % 4 * 8;
  int step = first_step;
#pragma unroll 1
  for (; step + (kUnroll - 1) * stride < depth / kStepDepth; step += kUnroll * stride) {
    Step<kTiles> steps[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      steps[u] = rows.Load((step + u * stride) * kStepDepth + at);
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) MultiplyStep(steps[u], d);
  }
#pragma unroll 1
  for (; step * kStepDepth < depth; step += stride) {
    const int k = step * kStepDepth + at;
    Step<kTiles> last = {};
    if (k < depth) last = rows.Load(k);
    MultiplyStep(last, d);
  }
}

// act[pair] = silu(gate x) * up x. A block has the expert of one pair, for all rows that chose it,
// and kGateUpWidth columns; its warps have parts of the depth.
template <int kTiles>
__global__ void __launch_bounds__(kGateUpWarps* kWarp, kTiles == 1 ? 3 : 2)
    GateUpKernel(FewRowsArgs a) {
  const int pair = static_cast<int>(blockIdx.y);
  int pairs[kTiles];
  if (!HeldHere(a, pair) || !PairsOfExpert(a, pair, pairs)) return;
  const int64_t expert = a.experts[pair] - a.first_expert;
  const int column = static_cast<int>(blockIdx.x) * kGateUpWidth + LaneId() / 4;
  LaneRows<kTiles> lane;
  lane.weights = a.gate_up + (expert * 2 * a.width + column) * a.hidden;
  lane.to_high = a.width * a.hidden;
  lane.batch = a.x;
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
    lane.columns[i] = (pairs[i] < 0 ? pair : pairs[i]) / a.top_k * a.hidden;
  }
  float d[kTiles][4] = {};
  MultiplyFewRows<4>(lane, a.hidden, WarpId(), kGateUpWarps, d);

  // The parts are added in the order of warps.
  __shared__ float parts[kGateUpWarps][kTiles * 4][kWarp];
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) parts[WarpId()][i * 4 + j][LaneId()] = d[i][j];
  }
  __syncthreads();
  if (WarpId() >= 2 * kTiles) return;
  const int tile = WarpId() / 2;
  const int item = WarpId() % 2;
  float gate_sum = 0;
  float up_sum = 0;
#pragma unroll
  for (int warp = 0; warp < kGateUpWarps; ++warp) {
    gate_sum += parts[warp][tile * 4 + item][LaneId()];
    up_sum += parts[warp][tile * 4 + 2 + item][LaneId()];
  }
  const int row = LaneId() % 4 * 2 + item;  // of the tile
  int to = -1;
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
    const int of_row = Shuffle(pairs[i], row * 4);
    if (i == tile) to = of_row;
  }
  if (to >= 0) {
    a.act[static_cast<int64_t>(to) * a.width + column] = ToBf16(Silu(gate_sum) * up_sum);
  }
}

// out = sum over a row's experts of weight * (down act), + shared. A block has kDownRows columns of
// the hidden size, its warps have experts.
template <int kTiles>
__global__ void __launch_bounds__(kMaxDownWarps* kWarp, 1) DownKernel(FewRowsArgs a) {
  float* const y = SharedMemory<float>();  // [rows * top_k, kDownRows]
  const int num_pairs = a.rows * a.top_k;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  const int first_column = static_cast<int>(blockIdx.x) * kDownRows;
  const int column = LaneId() / 4;
  for (int pair = WarpId(); pair < num_pairs; pair += warps) {
    int pairs[kTiles];
    if (!HeldHere(a, pair) || !PairsOfExpert(a, pair, pairs)) continue;
    const int64_t expert = a.experts[pair] - a.first_expert;
    LaneRows<kTiles> lane;
    lane.weights = a.down + (expert * a.hidden + first_column + column) * a.width;
    // The hidden size is a multiple of 8, not of 16: the upper half may lie beyond it.
    lane.to_high = first_column + kDownRows / 2 < a.hidden ? kDownRows / 2 * a.width : 0;
    lane.batch = a.act;
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      lane.columns[i] = (pairs[i] < 0 ? pair : pairs[i]) * a.width;
    }
    float d[kTiles][4] = {};
    MultiplyFewRows<kTiles == 1 ? 8 : 4>(lane, a.width, 0, 1, d);
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int to = Shuffle(pairs[i], (LaneId() % 4 * 2 + j % 2) * 4);
        if (to >= 0) y[to * kDownRows + column + j / 2 * (kDownRows / 2)] = d[i][j];
      }
    }
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < a.rows * kDownRows;
       i += static_cast<int>(blockDim.x)) {
    const int row = i / kDownRows;
    const int of_block = i % kDownRows;
    if (first_column + of_block >= a.hidden) continue;
    const int64_t at = static_cast<int64_t>(row) * a.hidden + first_column + of_block;
    float sum = 0;
    for (int pair = row * a.top_k; pair < (row + 1) * a.top_k; ++pair) {
      if (HeldHere(a, pair)) sum = fmaf(a.weights[pair], y[pair * kDownRows + of_block], sum);
    }
    if (a.shared != nullptr) {
      sum = fmaf(ToFloat(a.shared[at]), Sigmoid(ToFloat(a.shared_gate[row])), sum);
    }
    a.out[at] = ToBf16(sum);
  }
}

template <int kTiles>
void LaunchBoth(const FewRowsArgs& args, Queue& queue) {
  const int64_t pairs = int64_t{args.rows} * args.top_k;
  Launch<&GateUpKernel<kTiles>>(
      queue, dim3(Blocks(args.width, kGateUpWidth), static_cast<unsigned int>(pairs)),
      dim3(kGateUpWarps * kWarp), 0, args);
  const auto warps = static_cast<unsigned int>(std::min<int64_t>(pairs, kMaxDownWarps));
  Launch<&DownKernel<kTiles>>(queue, dim3(Blocks(args.hidden, kDownRows)), dim3(warps * kWarp),
                              static_cast<size_t>(pairs) * kDownRows * sizeof(float), args);
}

}  // namespace

void FewRowsExperts(const ExpertsArgs& args,
                    const CudaExpertWeights& weights,
                    Arena& arena,
                    Queue& queue) {
  const int64_t rows = args.x.dim(0);
  const int64_t top_k = args.experts.dim(1);
  DS_CHECK(rows >= 1 && rows <= kFewRows && top_k >= 1 && top_k <= kMaxTopK)
      << rows << " rows of " << top_k << " experts";
  DS_CHECK_LE(weights.hidden() * weights.width(), kMaxExpertMatrix);
  const TensorView act = arena.Allocate(DType::kBF16, {rows * top_k, weights.width()});
  const bool has_shared = args.shared.data() != nullptr;
  const FewRowsArgs few = {
      .rows = static_cast<int32_t>(rows),
      .top_k = static_cast<int32_t>(top_k),
      .hidden = static_cast<int32_t>(weights.hidden()),
      .width = static_cast<int32_t>(weights.width()),
      .first_expert = static_cast<int32_t>(args.first_expert),
      .num_experts = static_cast<int32_t>(weights.num_experts()),
      .experts = args.experts.as<int32_t>(),
      .weights = args.weights.as<float>(),
      .x = Bf16Of(args.x),
      .gate_up = static_cast<const bf16*>(weights.gate_up()),
      .down = static_cast<const bf16*>(weights.down()),
      .act = Bf16Of(act),
      .shared = has_shared ? Bf16Of(args.shared) : nullptr,
      .shared_gate = has_shared ? Bf16Of(args.shared_gate) : nullptr,
      .out = Bf16Of(args.out),
  };
  if (rows <= kColumns) {
    LaunchBoth<1>(few, queue);
  } else {
    LaunchBoth<2>(few, queue);
  }
}

}  // namespace deltaserve::cuda
