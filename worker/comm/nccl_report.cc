#include "worker/comm/nccl_report.h"

#include <algorithm>
#include <array>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace deltaserve {
namespace {

constexpr std::array<const char*, 4> kWayVariables = {"NCCL_SOCKET_IFNAME", "NCCL_IB_HCA",
                                                      "NCCL_IB_DISABLE", "NCCL_HOSTID"};

}  // namespace

std::string NcclEnvironment(const std::vector<std::string>& variables) {
  std::vector<std::string> set;
  for (const std::string& variable : variables) {
    if (absl::StartsWith(variable, "NCCL_")) set.push_back(variable);
  }
  std::vector<std::string> unset;
  for (const char* name : kWayVariables) {
    const bool is_set = std::any_of(set.begin(), set.end(), [&](const std::string& variable) {
      return absl::StartsWith(variable, absl::StrCat(name, "="));
    });
    if (!is_set) unset.emplace_back(name);
  }
  std::string text = absl::StrJoin(set, ", ");
  if (!unset.empty()) {
    absl::StrAppend(&text, text.empty() ? "" : "; ", "not set: ", absl::StrJoin(unset, ", "));
  }
  return text;
}

std::string NcclReport(const NcclPhase& phase, const std::string& problem) {
  std::string text = absl::StrCat("rank ", phase.rank.rank, " of ", phase.rank.size, " on ",
                                  phase.rank.host, ", ", phase.device, ": NCCL, ", phase.phase,
                                  ": ", problem, "; environment: ", phase.environment);
  if (absl::StrContains(problem, "Duplicate GPU")) {
    absl::StrAppend(&text,
                    "; ranks that share a GPU: give each a NCCL_HOSTID of its own, or use "
                    "--communicator mpi");
  }
  return text;
}

absl::Status NcclTimedOut(const NcclPhase& phase, absl::Duration timeout) {
  return absl::DeadlineExceededError(NcclReport(
      phase, absl::StrCat("not done after ", absl::FormatDuration(timeout),
                          ": a rank is missing, or cannot be reached over the interface that NCCL "
                          "took; NCCL_DEBUG=INFO shows which, NCCL_SOCKET_IFNAME chooses it")));
}

}  // namespace deltaserve
