#include "worker/gpu.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace deltaserve {
namespace {

// CUDA counts 13000 for 13.0.
std::string VersionText(int version) {
  return absl::StrCat(version / 1000, ".", version % 1000 / 10);
}

absl::Status Refuse(const RankInfo& info, const std::string& problem) {
  return absl::FailedPreconditionError(
      absl::StrCat("--device is cuda: rank ", info.rank, " on ", info.host, ": ", problem));
}

}  // namespace

absl::StatusOr<int> ChooseGpu(const cuda::System& system, const RankInfo& info, int ranks_per_gpu) {
  const auto num_gpus = static_cast<int>(system.gpus.size());
  if (system.driver_version == 0) {
    return Refuse(info,
                  "there is no NVIDIA driver (libcuda.so.1); install it, give the container its "
                  "GPUs, or use --device cpu");
  }
  // A driver knows the runtimes of its own major version and of those before.
  if (system.driver_version / 1000 < system.runtime_version / 1000) {
    return Refuse(info, absl::StrCat("its NVIDIA driver knows CUDA up to ",
                                     VersionText(system.driver_version), " and this build needs ",
                                     VersionText(system.runtime_version),
                                     "; install a newer driver, or use --device cpu"));
  }
  if (!system.error.empty()) return Refuse(info, system.error);
  if (num_gpus == 0) {
    return Refuse(info,
                  "there is no GPU; set CUDA_VISIBLE_DEVICES to those that it may use, or use "
                  "--device cpu");
  }
  if (info.local_size > num_gpus * ranks_per_gpu) {
    const int shared = (info.local_size + num_gpus - 1) / num_gpus;
    return Refuse(info, absl::StrCat("there are ", info.local_size, " ranks and ", num_gpus,
                                     num_gpus == 1 ? " GPU" : " GPUs",
                                     "; start a rank a GPU, or, for a test, share them by "
                                     "--ranks-per-gpu ",
                                     shared));
  }
  const int ordinal = info.local_rank % num_gpus;
  const cuda::Gpu& gpu = system.gpus[static_cast<size_t>(ordinal)];
  if (gpu.compute_capability != cuda::kComputeCapability) {
    return Refuse(info,
                  absl::StrCat("its GPU ", ordinal, ", ", gpu.name, ", has compute capability ",
                               gpu.compute_capability / 10, ".", gpu.compute_capability % 10,
                               " and the kernels are for 9.0; use an H100 or H200, or "
                               "--device cpu"));
  }
  return ordinal;
}

absl::Status CheckGpuMemory(MemoryPlan plan,
                            const EngineOptions& options,
                            int64_t free,
                            int ranks_per_gpu) {
  plan.per_queued = 0;
  plan.per_queued_token = 0;
  return CheckMemory(plan, options, std::max<int64_t>(free / ranks_per_gpu - kGpuReserve, 0));
}

std::string ModelOfDevice(const std::string& device_name) {
  const size_t begin = device_name.find('(');
  const size_t end = device_name.rfind(')');
  if (begin == std::string::npos || end == std::string::npos || end < begin) return device_name;
  return device_name.substr(begin + 1, end - begin - 1);
}

}  // namespace deltaserve
