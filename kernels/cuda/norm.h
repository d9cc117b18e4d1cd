#pragma once

// RmsNorm, AddRmsNorm and SiluMul. x, residual and weight are f32; deltas, gate_up and every output
// are bf16. See kernels/ops.h.

#include "kernels/ops.h"

namespace deltaserve::cuda {

class Queue;

// Rows of at most 32,768 elements, or 16,384 where the width is no multiple of 8.
void RmsNorm(const RmsNormArgs& args, Queue& queue);
void AddRmsNorm(const AddRmsNormArgs& args, Queue& queue);
void SiluMul(const SiluMulArgs& args, Queue& queue);

}  // namespace deltaserve::cuda
