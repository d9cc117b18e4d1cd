#include "kernels/base/check.h"
#include "kernels/cpu/cpu_ops.h"

namespace deltaserve::cpu {

std::unique_ptr<Ops> CreateCpuOps(CpuIsa isa, Quantization quantization, ThreadPool& pool) {
#if defined(__x86_64__)
  if (isa == CpuIsa::kX86V3) return CreateOpsX86V3(quantization, pool);
  DS_CHECK(isa == CpuIsa::kX86V4 || isa == CpuIsa::kX86V4Vnni) << CpuIsaName(isa);
  return CreateOpsX86V4(quantization, pool, isa == CpuIsa::kX86V4Vnni);
#else
  DS_CHECK(isa == CpuIsa::kArmV8) << CpuIsaName(isa);
  return CreateOpsArmV8(quantization, pool);
#endif
}

}  // namespace deltaserve::cpu
