#pragma once

// Which GPU a rank takes, how much of it, and which GPUs make a world.

#include <cstdint>
#include <string>

#include "worker/comm/communicator.h"

namespace deltaserve {

// Bytes of a GPU that a rank leaves to what the memory plan does not count: kernels, workspaces of
// libraries, small arrays and padding.
inline constexpr int64_t kGpuReserve = int64_t{1} << 30;

// The CUDA ordinal of a rank's GPU, by its number on its host. ranks_per_gpu >= 1.
int GpuOrdinal(const RankInfo& info, int ranks_per_gpu);

// What a rank may fill of a GPU on which `free` bytes are free.
int64_t GpuShare(int64_t free, int ranks_per_gpu);

// "NVIDIA H200" of the device name "cuda:1 (NVIDIA H200)": ranks of one world need GPUs of one
// model. A name without brackets is itself.
std::string ModelOfDevice(const std::string& device_name);

}  // namespace deltaserve
