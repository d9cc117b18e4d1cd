#pragma once

// PlanChannel: the stream of plans from rank 0 to the others, one message a step, checked for
// damage and for gaps. It knows nothing of what a plan says.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "worker/comm/mpi_world.h"
#include "worker/comm/thread_world.h"

namespace deltaserve {

// First bytes of every message, in the byte order of the machine (ranks are of one build).
struct PlanHeader {
  static constexpr uint32_t kMagic = 0x4e4c5044;  // "DPLN"

  uint32_t magic = kMagic;
  uint32_t kind = 0;   // the engine's; opaque here
  uint64_t epoch = 0;  // World::DrawEpoch: which life of the world
  uint64_t step = 0;   // from 1, one more each message
  uint64_t bytes = 0;  // of the payload
  uint32_t payload_crc = 0;
  uint32_t header_crc = 0;  // of this header with 0 here; checked before `bytes` is believed
  uint32_t reserved[6] = {};
};
static_assert(sizeof(PlanHeader) == 64);

// One received message.
struct PlanMessage {
  uint32_t kind = 0;
  uint64_t step = 0;
  std::vector<uint8_t> payload;  // its capacity is kept between steps
};

// The engine thread of each rank: rank 0 calls Send, the others Receive, in step. Owner: engine or
// follower.
class PlanChannel {
 public:
  // Header and payload travel in one broadcast of this size; what does not fit follows in a second.
  static constexpr size_t kSlotBytes = 1024;
  static constexpr size_t kMaxPayloadBytes = size_t{256} << 20;

  virtual ~PlanChannel() = default;

  // Rank 0 only. Returns when `payload` may be reused, not when others have it. Checked:
  // payload.size() <= kMaxPayloadBytes.
  // CANCELLED only where a test stopped its world.
  absl::Status Send(uint32_t kind, std::span<const uint8_t> payload);

  // Other ranks only; waits for the next message, spinning (see ControlLink for idle times).
  // DATA_LOSS where magic, epoch, step or CRC are not what they must be: this rank and rank 0 no
  // longer agree on what has happened, and the caller ends the world (kExitDivergence).
  absl::Status Receive(PlanMessage* message);

  // Step of the last message sent or received; 0 before the first.
  uint64_t step() const { return step_; }

 protected:
  PlanChannel(int rank, int size, uint64_t epoch);

  // Rank 0's bytes into all others' `bytes`; same size on all. Not called where size is 1.
  // CANCELLED where the world was stopped (ThreadWorld::Stop).
  virtual absl::Status BroadcastFromZero(std::span<uint8_t> bytes) = 0;

 private:
  absl::Status CheckHeader(const PlanHeader& header) const;

  const int rank_;
  const int size_;
  const uint64_t epoch_;
  uint64_t step_ = 0;
  std::vector<uint8_t> slot_;
  std::vector<uint8_t> tail_;  // rank 0's copy of what does not fit into the slot
};

// Collective (they agree on an epoch). `world` outlives the channel.
std::unique_ptr<PlanChannel> CreateMpiPlanChannel(MpiWorld& world);
std::unique_ptr<PlanChannel> CreateThreadPlanChannel(ThreadWorld& world, int rank);

}  // namespace deltaserve
