#include "worker/comm/shared_rounds.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <climits>

#include "kernels/base/check.h"

namespace deltaserve {
namespace {

// The first pauses, some microseconds, see ranks that come together. Then each look yields the
// core: ranks may outnumber the cores, and the one that is waited for may be next in line.
constexpr int kPauses = 100;
constexpr std::chrono::microseconds kYields(1000);

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  sched_yield();
#endif
}

// Not std::atomic::wait, which sleeps where only threads of the same process can wake it.
void SleepWhile(std::atomic<uint32_t>& word, uint32_t value) {
  syscall(SYS_futex, &word, FUTEX_WAIT, value, nullptr, nullptr, 0);
}

void WakeAll(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

// Rounds wrap.
bool HasCome(uint32_t published, uint32_t round) {
  return static_cast<int32_t>(published - round) >= 0;
}

size_t WholeLines(size_t bytes) { return (bytes + 127) / 128 * 128; }

}  // namespace

size_t SharedRounds::BytesFor(int ranks, size_t buffer_bytes) {
  return static_cast<size_t>(ranks) * sizeof(Flag) + 2 * WholeLines(buffer_bytes);
}

SharedRounds::SharedRounds(void* memory, int rank, int ranks, size_t buffer_bytes)
    : rank_(rank),
      ranks_(ranks),
      buffer_bytes_(WholeLines(buffer_bytes)),
      flags_(static_cast<Flag*>(memory)),
      buffers_(static_cast<std::byte*>(memory) + static_cast<size_t>(ranks) * sizeof(Flag)),
      round_(flags_[rank].round.load(std::memory_order_relaxed)) {
  DS_CHECK(rank >= 0 && rank < ranks) << "rank " << rank << " of " << ranks;
}

std::byte* SharedRounds::Begin() {
  for (int rank = 0; rank < ranks_; ++rank) AwaitRound(flags_[rank], round_);
  ++round_;
  return buffers_ + (round_ % 2) * buffer_bytes_;
}

void SharedRounds::Publish(uint64_t bytes) {
  Flag& mine = flags_[rank_];
  mine.bytes[round_ % 2] = bytes;
  // In one order with the sleepers' own two steps (count, look): one of both sees the other.
  mine.round.store(round_, std::memory_order_seq_cst);
  if (mine.sleepers.load(std::memory_order_seq_cst) != 0) WakeAll(mine.round);
}

void SharedRounds::Await(int rank) {
  AwaitRound(flags_[rank], round_);
  const uint64_t theirs = flags_[rank].bytes[round_ % 2];
  const uint64_t mine = flags_[rank_].bytes[round_ % 2];
  DS_CHECK(theirs == mine) << "round " << round_ << ": rank " << rank << " moves " << theirs
                           << " bytes while rank " << rank_ << " moves " << mine;
}

void SharedRounds::AwaitAll() {
  for (int rank = 0; rank < ranks_; ++rank) Await(rank);
}

void SharedRounds::AwaitRound(Flag& flag, uint32_t round) {
  const auto come = [&] { return HasCome(flag.round.load(std::memory_order_acquire), round); };
  for (int i = 0; i < kPauses; ++i) {
    if (come()) return;
    Pause();
  }
  const auto end = std::chrono::steady_clock::now() + kYields;
  while (std::chrono::steady_clock::now() < end) {
    if (come()) return;
    sched_yield();
  }
  flag.sleepers.fetch_add(1, std::memory_order_seq_cst);
  while (true) {
    const uint32_t seen = flag.round.load(std::memory_order_seq_cst);
    if (HasCome(seen, round)) break;
    SleepWhile(flag.round, seen);
  }
  flag.sleepers.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace deltaserve
