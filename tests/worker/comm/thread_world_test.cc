#include "worker/comm/thread_world.h"

#include "gtest/gtest.h"
#include "tests/worker/comm/rank_threads.h"
#include "tests/worker/comm/world_checks.h"

namespace deltaserve {
namespace {

class ThreadWorldTest : public testing::TestWithParam<int> {};

TEST_P(ThreadWorldTest, KnowsItsRanks) {
  ThreadWorld world(GetParam());
  for (int rank = 0; rank < GetParam(); ++rank) {
    const RankInfo& info = world.world(rank).info();
    EXPECT_EQ(info.rank, rank);
    EXPECT_EQ(info.size, GetParam());
    EXPECT_EQ(info.local_rank, rank);
    EXPECT_EQ(info.local_size, GetParam());
    EXPECT_EQ(info.node, 0);
  }
}

TEST_P(ThreadWorldTest, GathersAndBroadcastsBytes) {
  ThreadWorld world(GetParam());
  RunRanks(GetParam(), [&](int rank) { CheckWorld(world.world(rank)); });
}

TEST_P(ThreadWorldTest, AgreesOnTheLowestFailingRank) {
  ThreadWorld world(GetParam());
  RunRanks(GetParam(), [&](int rank) { CheckAgreeOnStatus(world.world(rank)); });
}

INSTANTIATE_TEST_SUITE_P(Ranks, ThreadWorldTest, testing::Values(1, 2, 5));

}  // namespace
}  // namespace deltaserve
