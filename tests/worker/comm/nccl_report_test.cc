#include "worker/comm/nccl_report.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaserve {
namespace {

NcclPhase Phase() {
  NcclPhase phase;
  phase.rank.rank = 1;
  phase.rank.size = 4;
  phase.rank.host = "node-b";
  phase.device = "cuda:1 (NVIDIA H200)";
  phase.phase = "connecting the ranks";
  phase.environment = NcclEnvironment({"NCCL_SOCKET_IFNAME=eth0"});
  return phase;
}

TEST(NcclReportTest, EnvironmentNamesWhatIsSetAndWhatChoosesTheWayAndIsNot) {
  EXPECT_EQ(NcclEnvironment({}),
            "not set: NCCL_SOCKET_IFNAME, NCCL_IB_HCA, NCCL_IB_DISABLE, NCCL_HOSTID");
  EXPECT_EQ(NcclEnvironment({"PATH=/bin", "NCCL_DEBUG=INFO", "NCCL_IB_HCA=mlx5", "XNCCL_IB_HCA=1",
                             "NCCL_SOCKET_IFNAME_OLD=eth1"}),
            "NCCL_DEBUG=INFO, NCCL_IB_HCA=mlx5, NCCL_SOCKET_IFNAME_OLD=eth1; not set: "
            "NCCL_SOCKET_IFNAME, NCCL_IB_DISABLE, NCCL_HOSTID");
  EXPECT_EQ(NcclEnvironment(
                {"NCCL_SOCKET_IFNAME=lo", "NCCL_IB_HCA=", "NCCL_IB_DISABLE=1", "NCCL_HOSTID=a"}),
            "NCCL_SOCKET_IFNAME=lo, NCCL_IB_HCA=, NCCL_IB_DISABLE=1, NCCL_HOSTID=a");
}

TEST(NcclReportTest, SaysWhoWhereAndInWhichPhase) {
  EXPECT_EQ(NcclReport(Phase(), "system error"),
            "rank 1 of 4 on node-b, cuda:1 (NVIDIA H200): NCCL, connecting the ranks: system "
            "error; environment: NCCL_SOCKET_IFNAME=eth0; not set: NCCL_IB_HCA, NCCL_IB_DISABLE, "
            "NCCL_HOSTID");
}

TEST(NcclReportTest, TellsRanksOfOneGpuWhatToDo) {
  EXPECT_THAT(NcclReport(Phase(), "invalid usage: Duplicate GPU detected : rank 0 and rank 1 both"),
              testing::HasSubstr("give each a NCCL_HOSTID of its own, or use --communicator mpi"));
}

TEST(NcclReportTest, ATimeOutMayBeTriedAgainAndSaysHowToLook) {
  const absl::Status late = NcclTimedOut(Phase(), absl::Seconds(120));
  EXPECT_EQ(late.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(late.message()),
              testing::AllOf(testing::HasSubstr("rank 1 of 4 on node-b"),
                             testing::HasSubstr("not done after 2m"),
                             testing::HasSubstr("NCCL_SOCKET_IFNAME=eth0"),
                             testing::HasSubstr("NCCL_DEBUG=INFO")));
}

}  // namespace
}  // namespace deltaserve
