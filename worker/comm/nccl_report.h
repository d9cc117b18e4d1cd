#pragma once

// What a rank says when NCCL does not start or fails: one line that names who, where and how NCCL
// was told to reach the others.

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "worker/comm/communicator.h"
#include "worker/comm/link_address.h"

namespace deltaserve {

// One phase of the start, or the steps after it, on one rank.
struct NcclPhase {
  RankInfo rank = {};
  std::string device = {};       // Device::Name()
  std::string interface = {};    // of NcclInterface()
  std::string phase = {};        // "connecting the ranks"
  std::string environment = {};  // of NcclEnvironment()
};

// The NCCL_* of `variables` (NAME=VALUE, as of a process) in their order, then those that choose
// the way between hosts and are not set: "NCCL_SOCKET_IFNAME=eth0; not set: NCCL_IB_HCA, ...".
std::string NcclEnvironment(const std::vector<std::string>& variables);

// Which of this host's interfaces NCCL meets the other ranks over, as far as it lets one know:
// those that `told`, the value of NCCL_SOCKET_IFNAME, means ("eth,ib": names that begin so;
// "=eth0": that name; "^docker": the others), or where it is empty those from which NCCL chooses.
// With the one that --control-network means, where that is given.
//
//   interface eth0 10.0.0.2 (NCCL_SOCKET_IFNAME)
//   interface by NCCL's choice of eth0 10.0.0.2, ib0 10.1.0.2 (control network: eth0 10.0.0.2)
std::string NcclInterface(const std::string& told,
                          const std::string& control_network,
                          const std::vector<HostInterface>& interfaces);

// "rank 1 of 4 on b, cuda:1 (NVIDIA H200), interface ...: NCCL, connecting the ranks: <problem>;
// environment: ...", with what helps where `problem` is that ranks share a GPU.
std::string NcclReport(const NcclPhase& phase, const std::string& problem);

// DEADLINE_EXCEEDED: a phase took longer than it may.
absl::Status NcclTimedOut(const NcclPhase& phase, absl::Duration timeout);

}  // namespace deltaserve
