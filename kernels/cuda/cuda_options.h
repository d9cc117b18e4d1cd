#pragma once

// Which kernels a CUDA device computes with, where it has more than its own, and the flags that say
// so.

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/flags.h"

namespace deltaserve::cuda {

enum class AttentionBackend { kNative, kFlashInfer };
enum class MoeBackend { kNative, kCutlass };

struct CudaOptions {
  AttentionBackend attention = AttentionBackend::kNative;
  MoeBackend moe = MoeBackend::kNative;
};

// As a command line has them.
struct BackendFlags {
  std::string attention = "native";  // native | flashinfer
  std::string moe = "native";        // native | cutlass
};

void AddBackendFlags(CommandLine& line, BackendFlags* flags);

// INVALID_ARGUMENT naming the flag: a value that it does not have, or one other than native where
// `device`, a value of --device, is not cuda.
absl::StatusOr<CudaOptions> ReadBackends(const BackendFlags& flags, const std::string& device);

// UNIMPLEMENTED: `given`, a flag and its value, names kernels that this build was made without.
absl::Status NotInThisBuild(const std::string& given);

// What is not native, for a device's name: ", attention of flashinfer, experts of cutlass".
std::string BackendsText(const CudaOptions& options);

}  // namespace deltaserve::cuda
