#pragma once

// Checksum64: of the tensors of a step, fast enough to be taken of each.

#include <cstdint>
#include <span>

#include "kernels/device.h"

namespace deltaserve {

// XXH64 (xxHash specification 0.1.1). `seed`: the checksum of what came before, to go on from.
uint64_t Checksum64(std::span<const uint8_t> bytes, uint64_t seed = 0);

// The same of a tensor's bytes; waits for the device where the host cannot address them.
uint64_t TensorChecksum(Device& device, TensorView tensor, uint64_t seed = 0);

}  // namespace deltaserve
