#pragma once

// What a rank says when NCCL does not start or fails: one line that names who, where and how NCCL
// was told to reach the others.

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "worker/comm/communicator.h"

namespace deltaserve {

// One phase of the start, or the steps after it, on one rank.
struct NcclPhase {
  RankInfo rank = {};
  std::string device = {};       // Device::Name()
  std::string phase = {};        // "connecting the ranks"
  std::string environment = {};  // of NcclEnvironment()
};

// The NCCL_* of `variables` (NAME=VALUE, as of a process) in their order, then those that choose
// the way between hosts and are not set: "NCCL_SOCKET_IFNAME=eth0; not set: NCCL_IB_HCA, ...".
std::string NcclEnvironment(const std::vector<std::string>& variables);

// "rank 1 of 4 on b, cuda:1 (NVIDIA H200): NCCL, connecting the ranks: <problem>; environment:
// ...", with what helps where `problem` is that ranks share a GPU.
std::string NcclReport(const NcclPhase& phase, const std::string& problem);

// DEADLINE_EXCEEDED: a phase took longer than it may.
absl::Status NcclTimedOut(const NcclPhase& phase, absl::Duration timeout);

}  // namespace deltaserve
