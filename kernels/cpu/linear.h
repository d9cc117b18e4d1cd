#pragma once

// Linear layers: out = x . W^T with weights packed into panels.

#include <memory>

#include "kernels/base/thread_pool.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/ops.h"

namespace deltaserve::cpu {

// See Ops::PackLinear. Packs in parallel; the given buffer is freed before this returns.
std::unique_ptr<LinearWeight> PackLinear(Buffer weight,
                                         DType dtype,
                                         int64_t out_features,
                                         int64_t in_features,
                                         Precision precision,
                                         const WeightFormat& format,
                                         ThreadPool& pool);

// See LinearArgs. Scratch: a block of min(rows, kMatmulRows) rows.
void Linear(const LinearArgs& args, Arena& arena, ThreadPool& pool);

}  // namespace deltaserve::cpu
