#include "worker/comm/link_address.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/base/status_macros.h"

namespace deltaserve {
namespace {

constexpr Ipv4 kLoopback = 0x7f000001;

std::optional<Ipv4> ParseIpv4(const std::string& text) {
  in_addr address{};
  if (inet_pton(AF_INET, text.c_str(), &address) != 1) return std::nullopt;
  return ntohl(address.s_addr);
}

struct Network {
  Ipv4 address = 0;
  Ipv4 mask = ~Ipv4{0};
};

// "10.77.0.2", or "10.77.0.0/24".
std::optional<Network> ParseNetwork(const std::string& text) {
  const size_t slash = text.find('/');
  const std::optional<Ipv4> address = ParseIpv4(text.substr(0, slash));
  if (!address.has_value()) return std::nullopt;
  Network network = {.address = *address};
  if (slash != std::string::npos) {
    uint32_t bits = 0;
    if (!absl::SimpleAtoi(text.substr(slash + 1), &bits) || bits > 32) return std::nullopt;
    network.mask = bits == 0 ? 0 : ~Ipv4{0} << (32 - bits);
  }
  return network;
}

// The first of `host` in `network`.
std::optional<Ipv4> FindIn(const Network& network, const std::vector<Ipv4>& host) {
  for (const Ipv4 address : host) {
    if ((address & network.mask) == (network.address & network.mask)) return address;
  }
  return std::nullopt;
}

std::string Join(const std::vector<Ipv4>& addresses) {
  return absl::StrJoin(addresses, ", ",
                       [](std::string* out, Ipv4 address) { out->append(FormatIpv4(address)); });
}

}  // namespace

std::string FormatIpv4(Ipv4 address) {
  return absl::StrCat(address >> 24, ".", (address >> 16) & 0xffu, ".", (address >> 8) & 0xffu, ".",
                      address & 0xffu);
}

bool IsLoopback(Ipv4 address) { return address >> 24 == 127; }

absl::StatusOr<std::vector<HostInterface>> HostInterfaces() {
  ifaddrs* first = nullptr;
  if (getifaddrs(&first) != 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot list network interfaces: ", std::strerror(errno)));
  }
  std::vector<HostInterface> interfaces;
  for (const ifaddrs* entry = first; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || entry->ifa_addr->sa_family != AF_INET ||
        (entry->ifa_flags & IFF_UP) == 0) {
      continue;
    }
    sockaddr_in address{};
    std::memcpy(&address, entry->ifa_addr, sizeof(address));
    interfaces.push_back({.name = entry->ifa_name, .address = ntohl(address.sin_addr.s_addr)});
  }
  freeifaddrs(first);
  return interfaces;
}

absl::StatusOr<std::vector<Ipv4>> HostAddresses() {
  DS_ASSIGN_OR_RETURN(const std::vector<HostInterface> interfaces, HostInterfaces());
  std::vector<Ipv4> addresses;
  addresses.reserve(interfaces.size());
  for (const HostInterface& interface : interfaces) addresses.push_back(interface.address);
  return addresses;
}

absl::StatusOr<LinkAddresses> ChooseLinkAddresses(const std::string& wanted,
                                                  bool all_on_one_host,
                                                  const std::vector<Ipv4>& host) {
  if (wanted.empty() && all_on_one_host) return LinkAddresses{kLoopback, {kLoopback}};
  if (wanted.empty()) {
    LinkAddresses result;
    std::copy_if(host.begin(), host.end(), std::back_inserter(result.offered),
                 [](Ipv4 address) { return !IsLoopback(address); });
    if (result.offered.empty()) {
      return absl::UnavailableError(
          absl::StrCat("control link: the ranks are on several hosts and rank 0's has no IPv4 "
                       "address that others could reach (it has ",
                       Join(host), "); give it one"));
    }
    return result;
  }
  const std::optional<Network> network = ParseNetwork(wanted);
  if (!network.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("control address \"", wanted,
                     "\" is neither an IPv4 address nor a network such as 10.77.0.0/24"));
  }
  const std::optional<Ipv4> address = FindIn(*network, host);
  if (address.has_value()) return LinkAddresses{*address, {*address}};
  return absl::InvalidArgumentError(absl::StrCat("control address \"", wanted,
                                                 "\" is not of rank 0's host; it has ",
                                                 host.empty() ? "none" : Join(host)));
}

absl::StatusOr<std::string> ResolveListen(const std::string& listen,
                                          const std::vector<Ipv4>& host) {
  const size_t colon = listen.rfind(':');
  const std::string place = listen.substr(0, colon);
  if (colon == std::string::npos || !absl::StrContains(place, '/')) return listen;
  const std::optional<Network> network = ParseNetwork(place);
  if (!network.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--listen is ", listen, ": ", place, " is no IPv4 network; write one as 10.77.0.0/24"));
  }
  const std::optional<Ipv4> address = FindIn(*network, host);
  if (!address.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--listen is ", listen, ": rank 0's host has no address in ", place,
                     "; it has ", host.empty() ? "none" : Join(host)));
  }
  return absl::StrCat(FormatIpv4(*address), listen.substr(colon));
}

}  // namespace deltaserve
