#pragma once

// The instruction sets that the CPU's kernels are compiled for, and which of them a processor has.

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace deltaserve::cpu {

// Ascending: each has all that the ones before it have.
enum class CpuIsa {
  kX86V3,      // AVX2, FMA, BMI2
  kX86V4,      // AVX-512 F, BW, CD, DQ, VL
  kX86V4Vnni,  // and AVX512_VNNI, for 8-bit weights
  kArmV8,      // aarch64 with Advanced SIMD, which all have
};

// "x86-64-v3", "x86-64-v4", "x86-64-v4-vnni", "armv8-a".
const char* CpuIsaName(CpuIsa isa);

// What the kernels need of a processor.
struct CpuFeatures {
  bool avx2 = false;
  bool fma = false;
  bool bmi2 = false;     // stands for the rest of x86-64-v3
  bool avx512 = false;   // all of x86-64-v4
  bool vnni512 = false;  // AVX512_VNNI
  bool arm = false;
};

CpuFeatures DetectCpuFeatures();

// Those that this build has and that `features` can run, ascending. FAILED_PRECONDITION naming the
// features that are missing where there is none.
absl::StatusOr<std::vector<CpuIsa>> UsableIsas(const CpuFeatures& features);

// "auto": the last of UsableIsas(). A name: that one, or INVALID_ARGUMENT with the names that would
// do here.
absl::StatusOr<CpuIsa> ChooseIsa(const std::string& name, const CpuFeatures& features);

}  // namespace deltaserve::cpu
