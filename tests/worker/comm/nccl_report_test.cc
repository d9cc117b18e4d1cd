#include "worker/comm/nccl_report.h"

#include <string>
#include <vector>

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
  phase.interface = "interface eth0 10.0.0.2 (NCCL_SOCKET_IFNAME)";
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
            "rank 1 of 4 on node-b, cuda:1 (NVIDIA H200), interface eth0 10.0.0.2 "
            "(NCCL_SOCKET_IFNAME): NCCL, connecting the ranks: system error; environment: "
            "NCCL_SOCKET_IFNAME=eth0; not set: NCCL_IB_HCA, NCCL_IB_DISABLE, NCCL_HOSTID");
}

TEST(NcclReportTest, NamesTheInterfacesThatNcclHas) {
  const std::vector<HostInterface> host = {{"lo", 0x7f000001},
                                           {"eth0", 0x0a000002},
                                           {"eth01", 0x0a020002},
                                           {"ib0", 0x0a010002},
                                           {"docker0", 0xac110001}};
  struct Case {
    std::string told;
    std::string control_network;
    std::string expected;
  };
  const std::vector<Case> cases = {
      {"eth0", "", "interface eth0 10.0.0.2, eth01 10.2.0.2 (NCCL_SOCKET_IFNAME)"},
      {"=eth0", "", "interface eth0 10.0.0.2 (NCCL_SOCKET_IFNAME)"},
      {"ib,=eth0", "", "interface ib0 10.1.0.2 (NCCL_SOCKET_IFNAME)"},
      {"^docker,eth,lo", "", "interface ib0 10.1.0.2 (NCCL_SOCKET_IFNAME)"},
      {"^=eth0,lo,docker0", "10.0.0.0/24",
       "interface eth01 10.2.0.2, ib0 10.1.0.2 (NCCL_SOCKET_IFNAME)"},
      {"bond0", "",
       "no interface of NCCL_SOCKET_IFNAME=bond0 (the host has lo 127.0.0.1, eth0 10.0.0.2, eth01 "
       "10.2.0.2, ib0 10.1.0.2, docker0 172.17.0.1)"},
      {"", "",
       "interface by NCCL's choice of eth0 10.0.0.2, eth01 10.2.0.2, ib0 10.1.0.2, docker0 "
       "172.17.0.1"},
      {"", "10.1.0.0/16",
       "interface by NCCL's choice of eth0 10.0.0.2, eth01 10.2.0.2, ib0 10.1.0.2, docker0 "
       "172.17.0.1 (control network 10.1.0.0/16: ib0 10.1.0.2)"},
  };
  for (const Case& one : cases) {
    EXPECT_EQ(NcclInterface(one.told, one.control_network, host), one.expected) << one.told;
  }
  EXPECT_EQ(NcclInterface("", "10.9.0.0/24", {host.front()}),
            "interface by NCCL's choice of lo 127.0.0.1 (control network 10.9.0.0/24: none with an "
            "IPv4 address)");
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
