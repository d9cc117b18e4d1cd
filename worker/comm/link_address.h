#pragma once

// Which IPv4 addresses a host has, which of them rank 0 offers for the control link, and where it
// serves.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace deltaserve {

// An IPv4 address in host byte order: 127.0.0.1 is 0x7f000001.
using Ipv4 = uint32_t;

std::string FormatIpv4(Ipv4 address);

// An address of an interface; one that has several is there for each.
struct HostInterface {
  std::string name;  // "eth0"
  Ipv4 address = 0;
};

bool IsLoopback(Ipv4 address);

// Of this host those that are up, loopback included. UNAVAILABLE where the system does not say.
absl::StatusOr<std::vector<HostInterface>> HostInterfaces();
// Their addresses.
absl::StatusOr<std::vector<Ipv4>> HostAddresses();

// What rank 0 listens on and what the other ranks try, in this order.
struct LinkAddresses {
  Ipv4 listen = 0;  // 0: every interface
  std::vector<Ipv4> offered;
};

// `wanted` is ControlLinkOptions::address: empty, "10.77.0.2" or "10.77.0.0/24". INVALID_ARGUMENT
// where it is not IPv4 or none of `host` matches it, UNAVAILABLE where ranks are on several hosts
// and this one has no address but loopback.
absl::StatusOr<LinkAddresses> ChooseLinkAddresses(const std::string& wanted,
                                                  bool all_on_one_host,
                                                  const std::vector<Ipv4>& host);

// `listen` is HOST:PORT, or NETWORK:PORT such as "10.77.0.0/24:50052", for which the first of
// `host` in that network takes the network's place. INVALID_ARGUMENT where it is no network, or
// none is in it.
absl::StatusOr<std::string> ResolveListen(const std::string& listen, const std::vector<Ipv4>& host);

}  // namespace deltaserve
