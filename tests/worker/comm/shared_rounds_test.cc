#include "worker/comm/shared_rounds.h"

#include <time.h>

#include <cstring>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "kernels/tensor/tensor_view.h"
#include "tests/worker/comm/rank_threads.h"

namespace deltaserve {
namespace {

constexpr size_t kBufferBytes = 1000;  // no multiple of a cache line

// Memory that `ranks` threads share as ranks do.
Buffer Memory(int ranks) {
  Buffer memory = Buffer::AllocateHost(SharedRounds::BytesFor(ranks, kBufferBytes));
  std::memset(memory.data(), 0, memory.bytes());
  return memory;
}

// Every rank puts its number and the round's into the buffer and reads those of all. How many are
// wrong: a rank that stopped at the first would leave the others waiting.
int ExchangeNumbers(SharedRounds& rounds, int rank, int ranks, uint32_t round) {
  auto* const numbers = reinterpret_cast<uint32_t*>(rounds.Begin());
  numbers[rank] = round * 100 + static_cast<uint32_t>(rank);
  rounds.Publish(4);
  rounds.AwaitAll();
  int num_wrong = 0;
  for (int peer = 0; peer < ranks; ++peer) {
    num_wrong += numbers[peer] != round * 100 + static_cast<uint32_t>(peer);
  }
  return num_wrong;
}

void ExchangeNumbersInThreads(void* memory, int ranks, uint32_t num_rounds) {
  RunRanks(ranks, [&](int rank) {
    SharedRounds rounds(memory, rank, ranks, kBufferBytes);
    int num_wrong = 0;
    for (uint32_t round = 0; round < num_rounds; ++round) {
      num_wrong += ExchangeNumbers(rounds, rank, ranks, round);
    }
    EXPECT_EQ(num_wrong, 0);
  });
}

class SharedRoundsTest : public testing::TestWithParam<int> {};

TEST_P(SharedRoundsTest, EveryRankReadsWhatAllHaveWritten) {
  const int ranks = GetParam();
  const Buffer memory = Memory(ranks);
  ExchangeNumbersInThreads(memory.data(), ranks, 3000);
}

// Some 2000 rounds a second come to 2^32 within a month.
TEST_P(SharedRoundsTest, RoundsWrap) {
  const int ranks = GetParam();
  const Buffer memory = Memory(ranks);
  for (int rank = 0; rank < ranks; ++rank) {
    static_cast<uint32_t*>(memory.data())[rank * 32] = 0xfffffff0u;
  }
  ExchangeNumbersInThreads(memory.data(), ranks, 100);
}

INSTANTIATE_TEST_SUITE_P(Ranks, SharedRoundsTest, testing::Values(1, 2, 4));

// Nobody waits for rank 1, which publishes all it has: but not so far ahead that it writes over
// what rank 0 still reads.
TEST(SharedRoundsWaitTest, ARankThatNobodyWaitsForStaysOneRoundAhead) {
  const Buffer memory = Memory(2);
  constexpr uint32_t kRounds = 200;
  RunRanks(2, [&](int rank) {
    SharedRounds rounds(memory.data(), rank, 2, kBufferBytes);
    int num_wrong = 0;
    for (uint32_t round = 1; round <= kRounds; ++round) {
      auto* const number = reinterpret_cast<volatile uint32_t*>(rounds.Begin());
      if (rank == 1) *number = round;
      rounds.Publish(4);
      if (rank == 1) continue;
      rounds.Await(1);
      for (int look = 0; look < 200; ++look) num_wrong += *number != round;
    }
    EXPECT_EQ(num_wrong, 0);
  });
}

TEST(SharedRoundsWaitTest, WhoWaitsLongSleeps) {
  const Buffer memory = Memory(2);
  RunRanks(2, [&](int rank) {
    SharedRounds rounds(memory.data(), rank, 2, kBufferBytes);
    rounds.Begin();
    if (rank == 1) absl::SleepFor(absl::Milliseconds(200));
    rounds.Publish(0);
    if (rank == 1) return;
    timespec before = {}, after = {};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
    rounds.AwaitAll();
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
    EXPECT_LT(absl::DurationFromTimespec(after) - absl::DurationFromTimespec(before),
              absl::Milliseconds(50));
  });
}

TEST(SharedRoundsDeathTest, RanksThatMoveDifferentBytesAreFound) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        const Buffer memory = Memory(2);
        RunRanks(2, [&](int rank) {
          SharedRounds rounds(memory.data(), rank, 2, kBufferBytes);
          rounds.Begin();
          rounds.Publish(rank == 0 ? 64 : 16);
          rounds.AwaitAll();
        });
      },
      "rank 1 moves 16 bytes while rank 0 moves 64|rank 0 moves 64 bytes while rank 1 moves 16");
}

}  // namespace
}  // namespace deltaserve
