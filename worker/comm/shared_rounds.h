#pragma once

// SharedRounds: how ranks that see one memory hand data to each other, round after round. Knows
// nothing of MPI, of tensors, or of where the memory came from.

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace deltaserve {

// A round: Begin() gives a buffer that all ranks see; a rank writes what it has to its own place of
// it, calls Publish(), waits for those whose part it wants and reads it:
//
//   float* parts = rounds.Begin();
//   parts[rank] = mine;
//   rounds.Publish(sizeof(float));
//   rounds.AwaitAll();
//   sum = (parts[0] + parts[1]) + ...;
//
// What is read may be read until this rank's next Publish(). There are two buffers, used in turn,
// so a round needs one meeting: who writes to a buffer again has seen all others publish in the
// round between, after they had read it.
//
// Every rank makes the same rounds in the same order; one thread a rank. A wait pauses, then yields
// the core, then sleeps in the kernel; it has no end of its own, so another thread must end the
// process where a rank has died. Owner: a communicator. `memory` outlives it.
class SharedRounds {
 public:
  // Of `memory`, for buffers of `buffer_bytes`.
  static size_t BytesFor(int ranks, size_t buffer_bytes);

  // `memory`: zeroed before the first rank comes, at a multiple of 64 bytes. Every 128 bytes from
  // its start one rank's word says which round it has published last; rounds go on from there.
  SharedRounds(void* memory, int rank, int ranks, size_t buffer_bytes);

  // This round's buffer, at a multiple of 64 bytes; waits until nobody reads what it held.
  std::byte* Begin();

  // What this rank has written to the buffer may be read. `bytes`: that all ranks move in this
  // round, equal on all; those who wait for this rank check it.
  void Publish(uint64_t bytes);

  // After Publish(): returns when `rank` has published in this round; or every rank.
  void Await(int rank);
  void AwaitAll();

 private:
  // Of one rank, written by it alone but for `sleepers`. Two cache lines, which are fetched
  // together.
  struct alignas(128) Flag {
    std::atomic<uint32_t> round;     // last published, from 1
    std::atomic<uint32_t> sleepers;  // ranks that sleep until `round` changes
    uint64_t bytes[2];               // of the last two rounds, by round % 2
  };
  static_assert(std::atomic<uint32_t>::is_always_lock_free);

  static void AwaitRound(Flag& flag, uint32_t round);

  const int rank_;
  const int ranks_;
  const size_t buffer_bytes_;
  Flag* const flags_;         // [ranks]
  std::byte* const buffers_;  // [2, buffer_bytes]
  uint32_t round_;
};

}  // namespace deltaserve
