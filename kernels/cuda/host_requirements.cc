#include "kernels/cuda/host_requirements.h"

#include "absl/strings/str_cat.h"

namespace deltaserve::cuda {
namespace {

constexpr int kMajor = 9;
constexpr int kMinor = 0;

std::string Version(int version) { return absl::StrCat(version / 1000, ".", version % 1000 / 10); }

}  // namespace

absl::Status CheckHost(const HostFacts& host, int ordinal) {
  if (host.driver_version == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("--device=cuda: this host has no NVIDIA driver; install one for CUDA ",
                     Version(host.runtime_version),
                     " or later, start ranks where there is one, or run with ", "--device=cpu"));
  }
  // A driver runs what was made for any minor version of its major version.
  if (host.driver_version / 1000 < host.runtime_version / 1000) {
    return absl::FailedPreconditionError(absl::StrCat(
        "--device=cuda: this host's NVIDIA driver runs CUDA up to ", Version(host.driver_version),
        " and this build needs ", host.runtime_version / 1000,
        ".0: install a newer driver, or run with --device=cpu"));
  }
  if (host.num_gpus == 0) {
    return absl::FailedPreconditionError(
        "--device=cuda: this host has an NVIDIA driver and no GPU that this process may use: see "
        "nvidia-smi and CUDA_VISIBLE_DEVICES, or run with --device=cpu");
  }
  if (ordinal >= host.num_gpus) {
    return absl::FailedPreconditionError(absl::StrCat(
        "--device=cuda: a rank of this host needs GPU ", ordinal,
        ", counted from 0, and this process may use ", host.num_gpus,
        ": let each see all that ranks of the host use (CUDA_VISIBLE_DEVICES, or a "
        "launcher's --gpus-per-task, may hide the others), start as many ranks there as "
        "it has GPUs, or share them with --ranks-per-gpu"));
  }
  return absl::OkStatus();
}

absl::Status CheckGpu(const GpuFacts& gpu, int ordinal) {
  if (gpu.major == kMajor && gpu.minor == kMinor) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("--device=cuda: GPU ", ordinal, " (", gpu.name, ") has compute capability ",
                   gpu.major, ".", gpu.minor, " and this build's kernels are for ", kMajor, ".",
                   kMinor, " (sm_90a): use an H100 or H200, or run with --device=cpu"));
}

absl::Status NoMemory(int ordinal, size_t bytes, size_t free_bytes, size_t total_bytes) {
  return absl::ResourceExhaustedError(absl::StrCat(
      "cuda:", ordinal, ": no memory for ", bytes, " bytes: ", free_bytes, " of ", total_bytes,
      " are free; lower --kv-memory or --slots, run on more ranks, or end what else runs there"));
}

}  // namespace deltaserve::cuda
