#include "kernels/cuda/cutlass_products.h"
#include "kernels/cuda/expert_rows.h"
#include "kernels/cuda/experts.h"
#include "kernels/cuda/gathered_experts.h"
#include "kernels/cuda/grouped_products.h"

namespace deltaserve::cuda {
namespace {

ExpertParts ManyRows(const ExpertsArgs& args,
                     const CudaExpertWeights& w,
                     Arena& arena,
                     Queue& queue) {
  const int64_t pairs = args.experts.numel();
  const auto multiply = ChooseTileRows(pairs, w.num_experts()) == kManyTileRows ? &MultiplyManyRows
                                                                                : &MultiplyFewRows;
  const TensorView rows = arena.Allocate(DType::kBF16, {pairs, w.hidden()});  // of x, then y
  const TensorView gate_up = arena.Allocate(DType::kBF16, {pairs, 2 * w.width()});
  const TensorView places = arena.Allocate(DType::kI32, {pairs});
  const ExpertGroups groups =
      GroupByExpert(args.experts, args.first_expert, w.num_experts(), kManyTileRows, arena, queue);
  GatherExpertRows(groups, args.x, args.experts.dim(1), rows, places, queue);
  multiply(MakeExpertMatrices(groups, w.gate_up(), w.hidden(), rows, gate_up, arena, queue), arena,
           queue);
  ActivateExpertRows(groups, gate_up, queue);
  multiply(MakeExpertMatrices(groups, w.down(), w.width(), gate_up, rows, arena, queue), arena,
           queue);
  return {.y = rows, .places = places.as<int32_t>()};
}

}  // namespace

OpScratch GatheredExpertsScratch(const OpSizes& sizes) {
  if (sizes.num_experts == 0) return {};
  const int64_t elements = 2 * sizes.expert_width + sizes.hidden;
  constexpr int64_t kPlaces = 2;  // of a pair: in the groups, and its row's
  const int64_t row = sizes.top_k * (elements * static_cast<int64_t>(sizeof(BFloat16)) +
                                     kPlaces * static_cast<int64_t>(sizeof(int32_t)));
  return {.per_decode_row = row, .per_chunk_row = row};
}

void GatheredExperts(const ExpertsArgs& args, Arena& arena, Queue& queue) {
  ExpertsWith(&ManyRows, args, arena, queue);
}

}  // namespace deltaserve::cuda
