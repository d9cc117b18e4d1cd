#pragma once

// What router and world must agree on beside the messages.

#include <cstdint>

namespace deltaserve {

// Raised when the meaning of World's messages changes; a router serves only worlds of its own.
inline constexpr uint32_t kProtocolRevision = 1;

}  // namespace deltaserve
