#pragma once

// How the TCP links between rank 0 and the others come to be: listen, connect, and prove to each
// other that both belong to this world.

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/comm/link_address.h"

namespace deltaserve {

// One owned file descriptor.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept;
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor() { Reset(); }

  int fd() const { return fd_; }
  bool open() const { return fd_ >= 0; }
  void Reset();

 private:
  int fd_ = -1;
};

// What rank 0 sends to the others over MPI: where it listens, and the secrets by which each side
// knows the other.
struct LinkInvitation {
  using Token = std::array<uint8_t, 16>;

  std::vector<Ipv4> addresses;
  uint16_t port = 0;
  Token greeting{};  // rank 0 says it first
  Token answer{};    // the other rank's reply, sent only after the right greeting

  std::string Pack() const;
  // Of what Pack made.
  static LinkInvitation Unpack(const std::string& packed);
};

// Rank 0. A socket that listens on a port of the system's choice, and the invitation to it with
// fresh random tokens.
struct LinkListener {
  Descriptor socket;
  LinkInvitation invitation;
};
absl::StatusOr<LinkListener> ListenForLinks(const LinkAddresses& addresses);

// Rank 0. Waits until ranks 1 .. num_ranks - 1 have all linked up; entry r is rank r's socket,
// entry 0 is empty. Strangers and ranks that come twice are turned away. UNAVAILABLE after
// `timeout` names the ranks that are missing, with `hosts`.
absl::StatusOr<std::vector<Descriptor>> AcceptLinks(const LinkListener& listener,
                                                    const std::vector<std::string>& hosts,
                                                    absl::Duration timeout);

// Other ranks. Tries the addresses in order; UNAVAILABLE tells how each failed.
absl::StatusOr<Descriptor> ConnectLink(const LinkInvitation& invitation,
                                       int rank,
                                       absl::Duration timeout);

}  // namespace deltaserve
