#pragma once

// The Communicator of ranks that share a host, through memory that all of them see.

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "worker/comm/communicator.h"
#include "worker/comm/world.h"

namespace deltaserve {

// Tensors go in pieces of at most so many bytes.
inline constexpr size_t kSharedPieceBytes = size_t{512} << 10;

// Pieces up to so many bytes are added by every rank itself (one shot), which reads the parts of
// all; of larger ones each rank adds a slice, and all read the sums (less to read where ranks are
// more than two, but one meeting more). Same bits.
size_t OneShotBytes(int ranks);

// Of `memory`, for the communicator of `ranks` ranks.
size_t SharedCommunicatorBytes(int ranks);

// Name "shared". `memory`: one piece for all ranks, zeroed before the first comes, at a multiple of
// 64 bytes; it and `device` outlive the communicator.
std::unique_ptr<Communicator> CreateSharedCommunicator(void* memory,
                                                       int rank,
                                                       int size,
                                                       Device& device);

// The same in a SharedSegment of its own. Collective; UNAVAILABLE on every rank where they are not
// on one host or cannot share memory there.
absl::StatusOr<std::unique_ptr<Communicator>> CreateSharedCommunicator(World& world,
                                                                       Device& device);

}  // namespace deltaserve
