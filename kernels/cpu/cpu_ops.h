#pragma once

// The CPU's Ops: each method calls the function of the same name in this folder.

#include <memory>

#include "kernels/base/thread_pool.h"
#include "kernels/ops.h"

namespace deltaserve::cpu {

// `pool` must outlive the result; the ops run on it and are done when they return.
std::unique_ptr<Ops> CreateCpuOps(ThreadPool& pool);

}  // namespace deltaserve::cpu
