#pragma once

// RmsNorm, AddRmsNorm and SiluMul. x, residual and weight are f32; a delta is bf16 or f32; gate_up
// and every output are bf16. See kernels/ops.h.

#include "kernels/ops.h"

namespace deltaserve::cuda {

class Queue;

// Rows of at most 16,384 elements.
void RmsNorm(const RmsNormArgs& args, Queue& queue);
void AddRmsNorm(const AddRmsNormArgs& args, Queue& queue);
void SiluMul(const SiluMulArgs& args, Queue& queue);

}  // namespace deltaserve::cuda
