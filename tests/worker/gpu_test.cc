#include "worker/gpu.h"

#include "gtest/gtest.h"

namespace deltaserve {
namespace {

int OrdinalOf(int local_rank, int ranks_per_gpu) {
  RankInfo info;
  info.rank = 8 + local_rank;
  info.size = 16;
  info.local_rank = local_rank;
  info.local_size = 8;
  return GpuOrdinal(info, ranks_per_gpu);
}

TEST(GpuTest, IsTheOneOfTheRanksNumberOnItsHost) {
  EXPECT_EQ(OrdinalOf(0, 1), 0);
  EXPECT_EQ(OrdinalOf(7, 1), 7);
  EXPECT_EQ(OrdinalOf(1, 2), 0);
  EXPECT_EQ(OrdinalOf(2, 2), 1);
  EXPECT_EQ(OrdinalOf(7, 8), 0);
}

TEST(GpuTest, ARankLeavesTheReserveAndTheOthersShare) {
  EXPECT_EQ(GpuShare(80 * kGpuReserve, 1), 79 * kGpuReserve);
  EXPECT_EQ(GpuShare(80 * kGpuReserve, 2), 39 * kGpuReserve);
  EXPECT_EQ(GpuShare(kGpuReserve / 2, 1), 0);
}

TEST(GpuTest, TheModelOfADeviceLeavesTheOrdinalOut) {
  EXPECT_EQ(ModelOfDevice("cuda:3 (NVIDIA H100 80GB HBM3)"), "NVIDIA H100 80GB HBM3");
  EXPECT_EQ(ModelOfDevice("cuda:0 (NVIDIA GH200 (144G))"), "NVIDIA GH200 (144G)");
  EXPECT_EQ(ModelOfDevice("cpu (x86-64-v4)"), "x86-64-v4");
  EXPECT_EQ(ModelOfDevice("reference"), "reference");
}

}  // namespace
}  // namespace deltaserve
