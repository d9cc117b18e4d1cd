#include "kernels/cuda/expert_groups.h"
#include "kernels/cuda/expert_weights.h"
#include "kernels/cuda/experts.h"
#include "kernels/cuda/few_rows_experts.h"
#include "kernels/cuda/grouped_products.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/route_experts.h"
#include "kernels/cuda/vectors.h"

namespace deltaserve::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kPerThread = 8;  // columns: 16 bytes of bf16

struct SumArgs {
  const int32_t* experts;   // [rows, top_k]
  const float* weights;     // [rows, top_k]
  const bf16* y;            // [rows, top_k, hidden], of experts held here; by `places`, if any
  const int32_t* places;    // [rows, top_k] or null
  const bf16* shared;       // [rows, hidden] or null
  const bf16* shared_gate;  // [rows]
  bf16* out;                // [rows, hidden]
  int32_t top_k;
  int32_t hidden;
  int32_t first_expert;
  int32_t num_experts;  // held here
};

// sum += weight * x
__device__ void AddWeighted(float weight, const Eight& x, Eight* sum) {
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) sum->x[i] = fmaf(weight, x.x[i], sum->x[i]);
}

// out = sum of weight * y over a row's experts, in their order, + shared * sigmoid(shared_gate).
__global__ void SumKernel(SumArgs a) {
  const int64_t row = blockIdx.x;
  const int column = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x) * kPerThread;
  if (column >= a.hidden) return;
  Eight sum = {};
  for (int64_t pair = row * a.top_k; pair < (row + 1) * a.top_k; ++pair) {
    const int expert = a.experts[pair] - a.first_expert;
    if (expert < 0 || expert >= a.num_experts) continue;
    const int64_t place = a.places == nullptr ? pair : a.places[pair];
    AddWeighted(a.weights[pair], LoadEight(a.y + place * a.hidden + column), &sum);
  }
  const int64_t at = row * a.hidden + column;
  if (a.shared != nullptr) {
    AddWeighted(Sigmoid(ToFloat(a.shared_gate[row])), LoadEight(a.shared + at), &sum);
  }
  StoreEight(a.out + at, sum);
}

// `parts` are not read where no expert is held here.
void Sum(const ExpertsArgs& args, int64_t num_experts, const ExpertParts& parts, Queue& queue) {
  const int64_t rows = args.out.dim(0);
  const int64_t hidden = args.out.dim(1);
  const bool has_shared = args.shared.data() != nullptr;
  const SumArgs sum = {.experts = args.experts.as<int32_t>(),
                       .weights = args.weights.as<float>(),
                       .y = num_experts > 0 ? Bf16Of(parts.y) : nullptr,
                       .places = parts.places,
                       .shared = has_shared ? Bf16Of(args.shared) : nullptr,
                       .shared_gate = has_shared ? Bf16Of(args.shared_gate) : nullptr,
                       .out = Bf16Of(args.out),
                       .top_k = static_cast<int32_t>(args.experts.dim(1)),
                       .hidden = static_cast<int32_t>(hidden),
                       .first_expert = static_cast<int32_t>(args.first_expert),
                       .num_experts = static_cast<int32_t>(num_experts)};
  Launch<&SumKernel>(queue,
                     dim3(static_cast<unsigned int>(rows), Blocks(hidden, kThreads * kPerThread)),
                     dim3(kThreads), 0, sum);
}

ExpertParts ManyRows(const ExpertsArgs& args,
                     const CudaExpertWeights& w,
                     Arena& arena,
                     Queue& queue) {
  const int64_t pairs = args.experts.numel();
  const int64_t tile_rows = ChooseTileRows(pairs, w.num_experts());
  const ExpertGroups groups =
      GroupByExpert(args.experts, args.first_expert, w.num_experts(), tile_rows, arena, queue);
  const TensorView act = arena.Allocate(DType::kBF16, {pairs, w.width()});
  const TensorView y = arena.Allocate(DType::kBF16, {pairs, w.hidden()});
  GroupedGateUp(groups, tile_rows, w, args.x, args.experts.dim(1), act, queue);
  GroupedDown(groups, tile_rows, w, act, y, queue);
  return {.y = y};
}

}  // namespace

OpScratch ExpertsScratch(const OpSizes& sizes) {
  const int64_t row =
      sizes.top_k * (sizes.expert_width + sizes.hidden) * static_cast<int64_t>(sizeof(bf16));
  if (sizes.num_experts == 0) return {};
  return {.per_decode_row = row, .per_chunk_row = row};
}

void Experts(const ExpertsArgs& args, Arena& arena, Queue& queue) {
  ExpertsWith(&ManyRows, args, arena, queue);
}

void ExpertsWith(ManyRowsExperts many_rows, const ExpertsArgs& args, Arena& arena, Queue& queue) {
  const auto& w = *static_cast<const CudaExpertWeights*>(args.expert_weights);
  const int64_t rows = args.x.dim(0);
  const int64_t top_k = args.experts.dim(1);
  const int64_t pairs = args.experts.numel();
  DS_CHECK(args.x.dim(1) == w.hidden() && args.out.numel() == rows * w.hidden() &&
           args.experts.dim(0) == rows && args.weights.numel() == pairs)
      << args.x.ToString() << ", " << args.experts.ToString() << " to " << args.out.ToString();
  if (rows == 0) return;
  ArenaScope scope(arena);
  if (w.num_experts() == 0) {
    Sum(args, 0, {}, queue);
    return;
  }
  if (rows <= kFewRows && top_k <= kMaxTopK) {
    FewRowsExperts(args, w, arena, queue);
    return;
  }
  Sum(args, w.num_experts(), many_rows(args, w, arena, queue), queue);
}

}  // namespace deltaserve::cuda
