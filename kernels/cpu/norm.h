#pragma once

// RMSNorm, alone and after a residual sum.

#include "kernels/base/thread_pool.h"
#include "kernels/ops.h"

namespace deltaserve::cpu {

// out[i] = x[i] * rsqrt(mean(x^2) + eps) * weight[i] over `width` elements; out may be x.
void NormalizeRow(const float* x, const float* weight, float eps, int64_t width, float* out);

// See RmsNormArgs.
void RmsNorm(const RmsNormArgs& args, ThreadPool& pool);

// See AddRmsNormArgs.
void AddRmsNorm(const AddRmsNormArgs& args, ThreadPool& pool);

}  // namespace deltaserve::cpu
