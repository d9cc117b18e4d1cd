#include "kernels/cuda/shim/shim_device.h"

namespace deltaserve::cuda {

std::unique_ptr<Device> CreateShimDevice(uint64_t /*seed*/, const CudaOptions& /*options*/) {
  return nullptr;
}

}  // namespace deltaserve::cuda
