#include "kernels/cpu/isa.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace deltaserve::cpu {

const char* CpuIsaName(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kX86V3:
      return "x86-64-v3";
    case CpuIsa::kX86V4:
      return "x86-64-v4";
    case CpuIsa::kX86V4Vnni:
      return "x86-64-v4-vnni";
    case CpuIsa::kArmV8:
      return "armv8-a";
  }
  return "unknown";
}

CpuFeatures DetectCpuFeatures() {
  CpuFeatures features;
#if defined(__x86_64__)
  __builtin_cpu_init();
  features.avx2 = __builtin_cpu_supports("avx2") != 0;
  features.fma = __builtin_cpu_supports("fma") != 0;
  features.bmi2 = __builtin_cpu_supports("bmi2") != 0;
  features.avx512 =
      __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
      __builtin_cpu_supports("avx512cd") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
      __builtin_cpu_supports("avx512vl") != 0;
  features.vnni512 = __builtin_cpu_supports("avx512vnni") != 0;
#elif defined(__aarch64__)
  features.arm = true;
#endif
  return features;
}

absl::StatusOr<std::vector<CpuIsa>> UsableIsas(const CpuFeatures& features) {
  if (features.arm) return std::vector<CpuIsa>{CpuIsa::kArmV8};
  std::string missing;
  if (!features.avx2) absl::StrAppend(&missing, " AVX2");
  if (!features.fma) absl::StrAppend(&missing, " FMA");
  if (!features.bmi2) absl::StrAppend(&missing, " BMI2");
  if (!missing.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("cpu: this processor lacks", missing,
                     "; the kernels need x86-64-v3 (Haswell or Zen and later) or aarch64"));
  }
  std::vector<CpuIsa> usable = {CpuIsa::kX86V3};
  if (features.avx512) usable.push_back(CpuIsa::kX86V4);
  if (features.avx512 && features.vnni512) usable.push_back(CpuIsa::kX86V4Vnni);
  return usable;
}

absl::StatusOr<CpuIsa> ChooseIsa(const std::string& name, const CpuFeatures& features) {
  const auto usable = UsableIsas(features);
  if (!usable.ok()) return usable.status();
  if (name == "auto") return usable->back();
  for (const CpuIsa isa : *usable) {
    if (name == CpuIsaName(isa)) return isa;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--cpu-isa is ", name, "; this processor can take auto, ",
      absl::StrJoin(*usable, ", ",
                    [](std::string* out, CpuIsa isa) { absl::StrAppend(out, CpuIsaName(isa)); })));
}

}  // namespace deltaserve::cpu
