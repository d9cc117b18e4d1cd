#pragma once

// The short causal convolution in front of the delta rule.

#include "kernels/base/thread_pool.h"
#include "kernels/ops.h"

namespace deltaserve::cpu {

inline constexpr int64_t kMaxConvKernel = 8;

// out[t][c] = silu(sum_j weight[c][j] * x[t - (kernel - 1) + j][c]) for every row of every sequence
// (specification 3.5.2); rows before a sequence's first are its conv state, which then becomes its
// last kernel - 1 rows. x and states are those of args; out: f32 [rows, channels].
void CausalConv(const GatedDeltaNetArgs& args, float* out, ThreadPool& pool);

}  // namespace deltaserve::cpu
