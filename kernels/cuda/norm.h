#pragma once

// RmsNorm, AddRmsNorm and SiluMul. x, residual and weight are f32; a delta is bf16 or f32; gate_up
// and every output are bf16. See kernels/ops.h.

#include "kernels/ops.h"

namespace deltaserve::cuda {

class Queue;

// Elements of a row at most, of RmsNorm and AddRmsNorm.
inline constexpr int64_t kMaxNormWidth = 16384;

void RmsNorm(const RmsNormArgs& args, Queue& queue);
void AddRmsNorm(const AddRmsNormArgs& args, Queue& queue);
void SiluMul(const SiluMulArgs& args, Queue& queue);

}  // namespace deltaserve::cuda
