#include "kernels/cuda/cutlass_product.h"
#include "kernels/cuda/cutlass_products.h"
#include "kernels/cuda/grouped_products.h"

namespace deltaserve::cuda {

void MultiplyFewRows(const ExpertMatrices& matrices, Arena& arena, Queue& queue) {
  CutlassProduct<kFewTileRows, 1>::Run(matrices, arena, queue);
}

}  // namespace deltaserve::cuda
