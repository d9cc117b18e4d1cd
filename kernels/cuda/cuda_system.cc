#include "kernels/cuda/cuda_system.h"

#include <cuda_runtime.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"

namespace deltaserve::cuda {
namespace {

// None: there is no driver, or one older than the runtime, which System shows by its versions.
bool IsAboutVersions(cudaError_t error) {
  return error == cudaErrorInsufficientDriver || error == cudaErrorNoDevice;
}

absl::Status StatusOf(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("CUDA: ", call, ": ", cudaGetErrorName(error), ": ", cudaGetErrorString(error)));
}

}  // namespace

absl::StatusOr<System> QuerySystem() {
  System system;
  DS_RETURN_IF_ERROR(
      StatusOf(cudaDriverGetVersion(&system.driver_version), "cudaDriverGetVersion"));
  DS_RETURN_IF_ERROR(
      StatusOf(cudaRuntimeGetVersion(&system.runtime_version), "cudaRuntimeGetVersion"));
  int num_gpus = 0;
  const cudaError_t counted = cudaGetDeviceCount(&num_gpus);
  if (counted != cudaSuccess) {
    if (!IsAboutVersions(counted)) {
      system.error = std::string(StatusOf(counted, "cudaGetDeviceCount").message());
    }
    cudaGetLastError();  // or a later call is given this one's error
    return system;
  }
  for (int ordinal = 0; ordinal < num_gpus; ++ordinal) {
    cudaDeviceProp properties = {};
    if (const auto status =
            StatusOf(cudaGetDeviceProperties(&properties, ordinal), "cudaGetDeviceProperties");
        !status.ok()) {
      return status;
    }
    system.gpus.push_back(
        {.name = properties.name, .compute_capability = 10 * properties.major + properties.minor});
  }
  return system;
}

absl::StatusOr<int64_t> FreeMemory() {
  size_t free = 0;
  size_t total = 0;
  DS_RETURN_IF_ERROR(StatusOf(cudaMemGetInfo(&free, &total), "cudaMemGetInfo"));
  return static_cast<int64_t>(free);
}

}  // namespace deltaserve::cuda
