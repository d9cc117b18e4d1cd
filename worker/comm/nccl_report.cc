#include "worker/comm/nccl_report.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace deltaserve {
namespace {

constexpr std::array<const char*, 4> kWayVariables = {"NCCL_SOCKET_IFNAME", "NCCL_IB_HCA",
                                                      "NCCL_IB_DISABLE", "NCCL_HOSTID"};

// Whether a value of NCCL_SOCKET_IFNAME means the interface.
bool Means(absl::string_view told, const std::string& name) {
  const bool others = absl::ConsumePrefix(&told, "^");
  const bool exactly = absl::ConsumePrefix(&told, "=");
  const std::vector<std::string> listed = absl::StrSplit(told, ',', absl::SkipEmpty());
  const bool is_listed = std::any_of(listed.begin(), listed.end(), [&](const std::string& one) {
    return exactly ? name == one : absl::StartsWith(name, one);
  });
  return is_listed != others;
}

std::string Join(const std::vector<HostInterface>& interfaces) {
  if (interfaces.empty()) return "none with an IPv4 address";
  return absl::StrJoin(interfaces, ", ", [](std::string* out, const HostInterface& interface) {
    absl::StrAppend(out, interface.name, " ", FormatIpv4(interface.address));
  });
}

template <typename Predicate>
std::vector<HostInterface> Those(const std::vector<HostInterface>& interfaces, Predicate are) {
  std::vector<HostInterface> those;
  std::copy_if(interfaces.begin(), interfaces.end(), std::back_inserter(those), are);
  return those;
}

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

std::string NcclInterface(const std::string& told,
                          const std::string& control_network,
                          const std::vector<HostInterface>& interfaces) {
  if (!told.empty()) {
    const auto meant = Those(interfaces, [&](const auto& one) { return Means(told, one.name); });
    if (!meant.empty()) return absl::StrCat("interface ", Join(meant), " (NCCL_SOCKET_IFNAME)");
    return absl::StrCat("no interface of NCCL_SOCKET_IFNAME=", told, " (the host has ",
                        Join(interfaces), ")");
  }
  const auto outward = Those(interfaces, [](const auto& one) { return !IsLoopback(one.address); });
  std::string text =
      absl::StrCat("interface by NCCL's choice of ", Join(outward.empty() ? interfaces : outward));
  if (control_network.empty()) return text;
  std::vector<Ipv4> addresses;
  addresses.reserve(interfaces.size());
  for (const HostInterface& interface : interfaces) addresses.push_back(interface.address);
  const auto control = ChooseLinkAddresses(control_network, false, addresses);
  const auto linked = Those(
      interfaces, [&](const auto& one) { return control.ok() && one.address == control->listen; });
  return absl::StrCat(text, " (control network ", control_network, ": ", Join(linked), ")");
}

std::string NcclReport(const NcclPhase& phase, const std::string& problem) {
  std::string text =
      absl::StrCat("rank ", phase.rank.rank, " of ", phase.rank.size, " on ", phase.rank.host, ", ",
                   phase.device, ", ", phase.interface, ": NCCL, ", phase.phase, ": ", problem,
                   "; environment: ", phase.environment);
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
