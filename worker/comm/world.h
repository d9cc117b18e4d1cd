#pragma once

// World: the ranks as they stand before anything is served: who they are, and how they exchange a
// few bytes and agree on whether start-up went well.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "worker/comm/communicator.h"

namespace deltaserve {

// Collective calls: every rank makes the same ones in the same order, one thread a rank. Slow and
// blocking; for start-up and shutdown, never for a step. Owner: main (MpiWorld) or a test
// (ThreadWorld); outlives every communicator, channel and link made from it.
class World {
 public:
  virtual ~World() = default;

  virtual const RankInfo& info() const = 0;

  // Each rank's bytes, in rank order.
  virtual std::vector<std::string> AllGather(const std::string& mine) = 0;

  // Rank 0's bytes, on every rank; `bytes` is looked at on rank 0 only.
  virtual std::string BroadcastFromZero(const std::string& bytes) = 0;

  // Returns when every rank has called it.
  void Barrier();

  // OK where all ranks pass OK. Otherwise every rank gets the status of the lowest rank that did
  // not, and `first_failing` (may be null) its number, so that this rank alone prints it. Where
  // some fail by themselves those go before the ones that another's failure reached: that waited in
  // vain (DEADLINE_EXCEEDED) or were cut off (ABORTED).
  //
  //   int speaker = 0;
  //   absl::Status all = AgreeOnStatus(mine, &speaker);
  //   if (!all.ok()) { if (speaker == info().rank) Print(all); return 64; }
  absl::Status AgreeOnStatus(const absl::Status& mine, int* first_failing = nullptr);

  // One random 64-bit number, the same on every rank: the epoch of this life of the world.
  uint64_t DrawEpoch();
};

}  // namespace deltaserve
