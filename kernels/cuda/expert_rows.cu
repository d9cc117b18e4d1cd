#include "kernels/cuda/expert_rows.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/vectors.h"

namespace deltaserve::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPerThread = 8;  // elements: 16 bytes of bf16

// ExpertMatrices as it is filled.
struct MatricesArgs {
  const int32_t* begin;  // [num_experts + 1]
  const bf16* weight;
  const bf16* x;
  bf16* out;
  int32_t num_experts;
  int32_t columns;
  int32_t depth;
  int64_t row;  // elements of x
  int32_t* sizes;
  const void** weights;
  const void** xs;
  void** outs;
  int64_t* weight_stride;
  int64_t* x_stride;
  int64_t* out_stride;
};

// One thread an expert.
__global__ void MatricesKernel(MatricesArgs a) {
  const int expert = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (expert >= a.num_experts) return;
  const int64_t begin = a.begin[expert];
  int32_t* const size = a.sizes + int64_t{3} * expert;
  size[0] = a.columns;
  size[1] = a.begin[expert + 1] - a.begin[expert];
  size[2] = a.depth;
  a.weights[expert] = a.weight + static_cast<int64_t>(expert) * a.columns * a.depth;
  a.xs[expert] = a.x + begin * a.row;
  a.outs[expert] = a.out + begin * a.columns;
  a.weight_stride[expert] = a.depth;
  a.x_stride[expert] = a.row;
  a.out_stride[expert] = a.columns;
}

// One block a position.
__global__ void GatherKernel(const int32_t* pairs,
                             const int32_t* num_pairs,
                             const bf16* x,
                             int top_k,
                             int hidden,
                             bf16* to,
                             int32_t* places) {
  const int position = static_cast<int>(blockIdx.x);
  if (position >= *num_pairs) return;
  const int pair = pairs[position];
  if (threadIdx.x == 0) places[pair] = position;
  const bf16* const row = x + static_cast<int64_t>(pair / top_k) * hidden;
  bf16* const out = to + static_cast<int64_t>(position) * hidden;
  for (int i = static_cast<int>(threadIdx.x) * kPerThread; i < hidden;
       i += static_cast<int>(blockDim.x) * kPerThread) {
    *reinterpret_cast<uint4*>(out + i) = *reinterpret_cast<const uint4*>(row + i);
  }
}

// Blocks [positions, columns / threads].
__global__ void ActivateKernel(const int32_t* num_pairs, bf16* gate_up, int width) {
  const int position = static_cast<int>(blockIdx.x);
  const int column = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x) * kPerThread;
  if (position >= *num_pairs || column >= width) return;
  bf16* const row = gate_up + static_cast<int64_t>(position) * 2 * width;
  Eight gate = LoadEight(row + column);
  const Eight up = LoadEight(row + width + column);
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) gate.x[i] = Silu(gate.x[i]) * up.x[i];
  StoreEight(row + column, gate);
}

// The number of pairs held here.
const int32_t* NumPairs(const ExpertGroups& groups) { return groups.begin + groups.num_experts; }

// Eight bytes for each of `count`.
template <typename T>
T* AllocateWords(int64_t count, Arena& arena) {
  static_assert(sizeof(T) == sizeof(int64_t));
  return reinterpret_cast<T*>(arena.Allocate(DType::kU64, {count}).as<uint64_t>());
}

}  // namespace

ExpertMatrices MakeExpertMatrices(const ExpertGroups& groups,
                                  const void* weight,
                                  int64_t depth,
                                  const TensorView& x,
                                  const TensorView& out,
                                  Arena& arena,
                                  Queue& queue) {
  const int64_t experts = groups.num_experts;
  const int64_t columns = out.dim(1);
  const int64_t row = x.dim(1);
  DS_CHECK(x.dim(0) == out.dim(0) && depth <= row && columns % kPerThread == 0 &&
           depth % kPerThread == 0 && row % kPerThread == 0)
      << x.ToString() << ", " << depth << " of each row, to " << out.ToString();
  const MatricesArgs args = {.begin = groups.begin,
                             .weight = static_cast<const bf16*>(weight),
                             .x = Bf16Of(x),
                             .out = Bf16Of(out),
                             .num_experts = static_cast<int32_t>(experts),
                             .columns = static_cast<int32_t>(columns),
                             .depth = static_cast<int32_t>(depth),
                             .row = row,
                             .sizes = arena.Allocate(DType::kI32, {experts, 3}).as<int32_t>(),
                             .weights = AllocateWords<const void*>(experts, arena),
                             .xs = AllocateWords<const void*>(experts, arena),
                             .outs = AllocateWords<void*>(experts, arena),
                             .weight_stride = AllocateWords<int64_t>(experts, arena),
                             .x_stride = AllocateWords<int64_t>(experts, arena),
                             .out_stride = AllocateWords<int64_t>(experts, arena)};
  Launch<&MatricesKernel>(queue, dim3(Blocks(experts, kThreads)),
                          dim3(ThreadsFor(experts, kThreads)), 0, args);
  return {.num_experts = experts,
          .columns = columns,
          .depth = depth,
          .sizes = args.sizes,
          .weight = args.weights,
          .x = args.xs,
          .out = args.outs,
          .weight_stride = args.weight_stride,
          .x_stride = args.x_stride,
          .out_stride = args.out_stride};
}

void GatherExpertRows(const ExpertGroups& groups,
                      const TensorView& x,
                      int64_t top_k,
                      const TensorView& to,
                      const TensorView& places,
                      Queue& queue) {
  const int64_t pairs = to.dim(0);
  const int64_t hidden = to.dim(1);
  DS_CHECK(x.dim(1) == hidden && x.dim(0) * top_k == pairs && places.numel() == pairs)
      << x.ToString() << ", " << top_k << " times, to " << to.ToString();
  Launch<&GatherKernel>(queue, dim3(static_cast<unsigned int>(pairs)),
                        dim3(ThreadsFor(hidden / kPerThread, kThreads)), 0, groups.pairs,
                        NumPairs(groups), Bf16Of(x), static_cast<int>(top_k),
                        static_cast<int>(hidden), Bf16Of(to), places.as<int32_t>());
}

void ActivateExpertRows(const ExpertGroups& groups, const TensorView& gate_up, Queue& queue) {
  const int64_t width = gate_up.dim(1) / 2;
  const unsigned int threads = ThreadsFor(width / kPerThread, kThreads);
  Launch<&ActivateKernel>(
      queue, dim3(static_cast<unsigned int>(gate_up.dim(0)), Blocks(width / kPerThread, threads)),
      dim3(threads), 0, NumPairs(groups), Bf16Of(gate_up), static_cast<int>(width));
}

}  // namespace deltaserve::cuda
