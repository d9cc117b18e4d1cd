#pragma once

// The CPU's Ops: each method calls the function of the same name in this folder.

#include <memory>

#include "kernels/base/thread_pool.h"
#include "kernels/cpu/isa.h"
#include "kernels/ops.h"

namespace deltaserve::cpu {

// `pool` must outlive the result; the ops run on it and are done when they return. `isa` is one
// that this processor has and this build too (UsableIsas); `quantization`: of what is packed.
std::unique_ptr<Ops> CreateCpuOps(CpuIsa isa, Quantization quantization, ThreadPool& pool);

// One for each set of objects that the build has: the kernels compiled for x86-64-v3, for x86-64-v4
// (vnni: its 8-bit products by AVX512_VNNI) and for aarch64. The only names by which they are
// reached: each set is linked by itself and hides all others, so that no inline function compiled
// for a newer processor ends up in code that an older one runs.
std::unique_ptr<Ops> CreateOpsX86V3(Quantization quantization, ThreadPool& pool);
std::unique_ptr<Ops> CreateOpsX86V4(Quantization quantization, ThreadPool& pool, bool vnni);
std::unique_ptr<Ops> CreateOpsArmV8(Quantization quantization, ThreadPool& pool);

}  // namespace deltaserve::cpu
