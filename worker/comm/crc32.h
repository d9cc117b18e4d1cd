#pragma once

// CRC-32 of plans and of sampled ids.

#include <cstdint>
#include <span>

namespace deltaserve {

// The CRC-32 of zlib and Ethernet (polynomial 0xEDB88320, reflected, both ends inverted); 0 for no
// bytes. `seed`: the CRC of what came before, to go on from.
uint32_t Crc32(std::span<const uint8_t> bytes, uint32_t seed = 0);

}  // namespace deltaserve
