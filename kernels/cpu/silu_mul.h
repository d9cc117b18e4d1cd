#pragma once

// The activation of gated feed-forwards.

#include "kernels/base/thread_pool.h"
#include "kernels/ops.h"

namespace deltaserve::cpu {

// out[i] = silu(gate[i]) * up[i], i < n; out may be gate or up.
void SiluMulRow(const float* gate, const float* up, int64_t n, float* out);

// See SiluMulArgs.
void SiluMul(const SiluMulArgs& args, ThreadPool& pool);

}  // namespace deltaserve::cpu
