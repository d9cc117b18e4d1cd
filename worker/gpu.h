#pragma once

// Which GPU a rank takes, and what keeps it from one, found before anything is put on it.

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/cuda_system.h"
#include "worker/comm/communicator.h"
#include "worker/engine/engine_options.h"
#include "worker/engine/memory_plan.h"

namespace deltaserve {

// Bytes of a GPU that a rank leaves to kernels, to cuBLAS and to what the plan does not count.
inline constexpr int64_t kGpuReserve = int64_t{1} << 30;

// The ordinal of the GPU of rank `info`: by its number on the host, one rank a GPU or at most
// `ranks_per_gpu`. FAILED_PRECONDITION where the host has no driver or an old one, no GPU, too few,
// or one that the kernels are not for; the message names host, numbers and remedy.
absl::StatusOr<int> ChooseGpu(const cuda::System& system, const RankInfo& info, int ranks_per_gpu);

// INVALID_ARGUMENT, as CheckMemory, where the plan of a rank does not fit into its share of the
// `free` bytes of a GPU; what waits in the queue is in the host's memory.
absl::Status CheckGpuMemory(MemoryPlan plan,
                            const EngineOptions& options,
                            int64_t free,
                            int ranks_per_gpu);

// "NVIDIA H200" of the device name "cuda:1 (NVIDIA H200)": ranks of one world need GPUs of one
// model. A name without brackets is itself.
std::string ModelOfDevice(const std::string& device_name);

}  // namespace deltaserve
