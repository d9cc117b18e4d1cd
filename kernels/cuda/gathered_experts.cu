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
  const TensorView y = arena.Allocate(DType::kBF16, {pairs, w.hidden()});
  const TensorView places = arena.Allocate(DType::kI32, {pairs});
  const ExpertGroups groups =
      GroupByExpert(args.experts, args.first_expert, w.num_experts(), kManyTileRows, arena, queue);
  const TensorView x = arena.Allocate(DType::kBF16, {pairs, w.hidden()});
  const TensorView gate_up = arena.Allocate(DType::kBF16, {pairs, 2 * w.width()});
  const TensorView act = arena.Allocate(DType::kBF16, {pairs, w.width()});
  GatherExpertRows(groups, args.x, args.experts.dim(1), x, places, queue);
  multiply(MakeExpertMatrices(groups, w.gate_up(), x, gate_up, arena, queue), arena, queue);
  ActivateExpertRows(groups, gate_up, act, queue);
  multiply(MakeExpertMatrices(groups, w.down(), act, y, arena, queue), arena, queue);
  return {.y = y, .places = places.as<int32_t>()};
}

}  // namespace

void GatheredExperts(const ExpertsArgs& args, Arena& arena, Queue& queue) {
  ExpertsWith(&ManyRows, args, arena, queue);
}

}  // namespace deltaserve::cuda
