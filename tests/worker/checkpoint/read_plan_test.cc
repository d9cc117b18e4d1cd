#include "worker/checkpoint/read_plan.h"

#include <numeric>

#include "gtest/gtest.h"

namespace deltaserve {
namespace {

TEST(ReadPlanTest, ReadsSmallGapsWithTheirNeighboursAndCountsThem) {
  const ReadPlan plan = PlanReads({{0, 0, 0, 100}, {0, 1000, 100, 100}});
  ASSERT_EQ(plan.runs.size(), 1U);
  EXPECT_EQ(plan.runs[0].bytes, 1100);
  EXPECT_EQ(plan.read_bytes, 1100);
  EXPECT_EQ(plan.needed_bytes, 200);
}

TEST(ReadPlanTest, LeavesLargeGapsUnread) {
  const ReadPlan plan = PlanReads({{0, 0, 0, 100}, {0, 100 + kSmallGap, 100, 100}});
  ASSERT_EQ(plan.runs.size(), 2U);
  EXPECT_EQ(plan.read_bytes, 200);
}

TEST(ReadPlanTest, NeverJoinsTwoStoredTensors) {
  EXPECT_EQ(PlanReads({{0, 0, 0, 100}, {1, 100, 100, 100}}).runs.size(), 2U);
}

TEST(ReadPlanTest, SortsBySource) {
  const ReadPlan plan = PlanReads({{0, 500, 0, 100}, {0, 0, 100, 100}});
  ASSERT_EQ(plan.runs.size(), 1U);
  EXPECT_EQ(plan.runs[0].offset, 0);
  EXPECT_EQ(plan.ranges[0].destination_offset, 100);
}

TEST(ReadPlanTest, CutsLongRangesForSeveralReaders) {
  const int64_t bytes = 3 * kMostRunBytes + 5;
  const ReadPlan plan = PlanReads({{0, 64, 128, bytes}});
  ASSERT_EQ(plan.runs.size(), 4U);
  int64_t end = 64;
  for (const ReadRun& run : plan.runs) {
    EXPECT_EQ(run.offset, end);
    EXPECT_EQ(run.num_ranges, 1U);
    EXPECT_EQ(plan.ranges[run.first_range].destination_offset, run.offset + 64);
    end += run.bytes;
  }
  EXPECT_EQ(end, 64 + bytes);
  EXPECT_EQ(plan.read_bytes, bytes);
}

TEST(ReadPlanTest, NoRunOfManyPiecesIsLongerThanAReadersShare) {
  std::vector<ByteRange> pieces;
  for (int64_t i = 0; i < 5000; ++i) pieces.push_back({0, i * 4096, i * 512, 512});
  const ReadPlan plan = PlanReads(pieces);
  size_t ranges = 0;
  for (const ReadRun& run : plan.runs) {
    EXPECT_LE(run.bytes, kMostRunBytes);
    ranges += run.num_ranges;
  }
  EXPECT_EQ(ranges, pieces.size());
  EXPECT_EQ(plan.runs.size(), 3U);
}

}  // namespace
}  // namespace deltaserve
