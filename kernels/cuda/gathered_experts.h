#pragma once

// Experts whose products for many rows are a library's (cutlass_products.h).

#include "kernels/ops.h"

namespace deltaserve::cuda {

class Queue;

// As Experts (experts.h), and for up to kFewRows rows the same. Rows are gathered by expert first.
// Gate and up are rounded to bf16 before their product is. Scratch: for each pair of a row and a
// choice a row of `hidden` and two of `width` in bf16, the sort's, some arrays by expert and
// CUTLASS's 512 bytes a multiprocessor.
void GatheredExperts(const ExpertsArgs& args, Arena& arena, Queue& queue);

// See Ops::Memory.
OpScratch GatheredExpertsScratch(const OpSizes& sizes);

}  // namespace deltaserve::cuda
