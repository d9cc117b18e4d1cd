#include "kernels/cuda/shim/shim_device.h"

namespace deltaserve::cuda {

std::unique_ptr<Device> CreateShimDevice(uint64_t /*seed*/, MoeBackend /*moe*/) { return nullptr; }

}  // namespace deltaserve::cuda
