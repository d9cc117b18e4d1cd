#include "worker/comm/link_handshake.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace deltaserve {
namespace {

// Messages of the handshake: greeting (16 bytes of token), answer (token and rank), one byte of
// assent.
constexpr size_t kTokenBytes = sizeof(LinkInvitation::Token);
constexpr size_t kAnswerBytes = kTokenBytes + sizeof(uint32_t);
constexpr char kAssent = 'A';
// More connections than this that have not answered: the rest wait in the listen queue.
constexpr size_t kMaxPending = 256;

absl::Status Unavailable(const std::string& what) {
  return absl::UnavailableError(absl::StrCat(what, ": ", std::strerror(errno)));
}

sockaddr_in SocketAddress(Ipv4 address, uint16_t port) {
  sockaddr_in result{};
  result.sin_family = AF_INET;
  result.sin_addr.s_addr = htonl(address);
  result.sin_port = htons(port);
  return result;
}

// A dead host is found by unanswered data or probes, not only by missing heartbeats.
void TuneLink(int fd) {
  const auto set = [fd](int level, int option, int value) {
    DS_CHECK_EQ(setsockopt(fd, level, option, &value, sizeof(value)), 0) << std::strerror(errno);
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 10'000);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 2);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 1);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
}

LinkInvitation::Token RandomToken() {
  LinkInvitation::Token token;
  DS_CHECK(getrandom(token.data(), token.size(), 0) == static_cast<ssize_t>(token.size()))
      << std::strerror(errno);
  return token;
}

// In a time that does not tell where they differ.
bool SameToken(const LinkInvitation::Token& token, const char* bytes) {
  unsigned difference = 0;
  for (size_t i = 0; i < token.size(); ++i) {
    difference |= static_cast<unsigned>(token[i] ^ static_cast<uint8_t>(bytes[i]));
  }
  return difference == 0;
}

int PollTimeout(absl::Time deadline) {
  const absl::Duration left = deadline - absl::Now();
  if (left <= absl::ZeroDuration()) return 0;
  return static_cast<int>(absl::ToInt64Milliseconds(left)) + 1;
}

// False at the deadline.
bool WaitFor(int fd, int16_t events, absl::Time deadline) {
  while (true) {
    pollfd entry = {.fd = fd, .events = events, .revents = 0};
    const int ready = poll(&entry, 1, PollTimeout(deadline));
    if (ready > 0) return true;
    if (absl::Now() >= deadline) return false;
  }
}

bool SendAll(int fd, const std::string& bytes) {
  // A fresh socket takes a few bytes at once.
  return send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
}

absl::Status ReceiveAll(int fd, size_t bytes, absl::Time deadline, std::string* out) {
  out->clear();
  while (out->size() < bytes) {
    if (!WaitFor(fd, POLLIN, deadline)) return absl::UnavailableError("no answer in time");
    char buffer[64];
    const ssize_t got = recv(fd, buffer, std::min(sizeof(buffer), bytes - out->size()), 0);
    if (got == 0) return absl::UnavailableError("closed by the other side");
    if (got < 0 && errno != EAGAIN && errno != EINTR) return Unavailable("recv");
    if (got > 0) out->append(buffer, static_cast<size_t>(got));
  }
  return absl::OkStatus();
}

absl::StatusOr<Descriptor> ConnectTo(const LinkInvitation& invitation,
                                     Ipv4 address,
                                     int rank,
                                     absl::Time deadline) {
  Descriptor link(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!link.open()) return Unavailable("socket");
  const sockaddr_in peer = SocketAddress(address, invitation.port);
  if (connect(link.fd(), reinterpret_cast<const sockaddr*>(&peer), sizeof(peer)) != 0) {
    if (errno != EINPROGRESS) return Unavailable("connect");
    if (!WaitFor(link.fd(), POLLOUT, deadline)) return absl::UnavailableError("no answer in time");
    int error = 0;
    socklen_t length = sizeof(error);
    getsockopt(link.fd(), SOL_SOCKET, SO_ERROR, &error, &length);
    errno = error;
    if (error != 0) return Unavailable("connect");
  }
  TuneLink(link.fd());
  std::string bytes;
  DS_RETURN_IF_ERROR(ReceiveAll(link.fd(), kTokenBytes, deadline, &bytes));
  if (!SameToken(invitation.greeting, bytes.data())) {
    return absl::UnavailableError("another program answers there");
  }
  bytes.assign(reinterpret_cast<const char*>(invitation.answer.data()), kTokenBytes);
  const auto number = static_cast<uint32_t>(rank);
  bytes.append(reinterpret_cast<const char*>(&number), sizeof(number));
  if (!SendAll(link.fd(), bytes)) return Unavailable("send");
  DS_RETURN_IF_ERROR(ReceiveAll(link.fd(), 1, deadline, &bytes));
  return link;
}

// Rank 0's side of all handshakes that are under way.
class Reception {
 public:
  Reception(const LinkListener& listener, size_t num_ranks)
      : listener_(listener), links_(num_ranks) {}

  bool complete() const { return num_linked_ + 1 == links_.size(); }
  std::vector<Descriptor> TakeLinks() { return std::move(links_); }
  bool linked(size_t rank) const { return links_[rank].open(); }

  // Waits for the next event, and handles all that there are.
  void Step(absl::Time deadline) {
    std::vector<pollfd> entries;
    const bool room = pending_.size() < kMaxPending;
    entries.push_back({.fd = room ? listener_.socket.fd() : -1, .events = POLLIN, .revents = 0});
    for (const Guest& guest : pending_) {
      entries.push_back({.fd = guest.socket.fd(), .events = POLLIN, .revents = 0});
    }
    if (poll(entries.data(), entries.size(), PollTimeout(deadline)) <= 0) return;
    for (size_t i = 0; i < pending_.size(); ++i) {
      if (entries[i + 1].revents != 0) Hear(pending_[i]);
    }
    std::erase_if(pending_, [](const Guest& guest) { return !guest.socket.open(); });
    if (entries[0].revents != 0) Greet();
  }

 private:
  struct Guest {
    Descriptor socket;
    std::string heard;
  };

  void Greet() {
    Descriptor socket(
        accept4(listener_.socket.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket.open()) return;
    TuneLink(socket.fd());
    const auto& greeting = listener_.invitation.greeting;
    if (!SendAll(socket.fd(),
                 std::string(reinterpret_cast<const char*>(greeting.data()), greeting.size()))) {
      return;
    }
    pending_.push_back({std::move(socket), {}});
  }

  // Closes the socket of a guest that is no rank of ours; moves it to links_ where it is.
  void Hear(Guest& guest) {
    char buffer[kAnswerBytes];
    const ssize_t got =
        recv(guest.socket.fd(), buffer, kAnswerBytes - guest.heard.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got > 0) guest.heard.append(buffer, static_cast<size_t>(got));
    if (got > 0 && guest.heard.size() < kAnswerBytes) return;
    uint32_t rank = 0;
    if (guest.heard.size() == kAnswerBytes) {
      std::memcpy(&rank, guest.heard.data() + kTokenBytes, sizeof(rank));
    }
    const bool ours = got > 0 && SameToken(listener_.invitation.answer, guest.heard.data()) &&
                      rank >= 1 && rank < links_.size() && !links_[rank].open();
    if (!ours || !SendAll(guest.socket.fd(), std::string(1, kAssent))) {
      guest.socket.Reset();
      return;
    }
    links_[rank] = std::move(guest.socket);
    ++num_linked_;
  }

  const LinkListener& listener_;
  std::vector<Guest> pending_;
  std::vector<Descriptor> links_;  // by rank
  size_t num_linked_ = 0;
};

}  // namespace

Descriptor::Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    Reset();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

void Descriptor::Reset() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

std::string LinkInvitation::Pack() const {
  std::string packed;
  packed.append(reinterpret_cast<const char*>(greeting.data()), kTokenBytes);
  packed.append(reinterpret_cast<const char*>(answer.data()), kTokenBytes);
  packed.append(reinterpret_cast<const char*>(&port), sizeof(port));
  packed.append(reinterpret_cast<const char*>(addresses.data()), addresses.size() * sizeof(Ipv4));
  return packed;
}

LinkInvitation LinkInvitation::Unpack(const std::string& packed) {
  constexpr size_t kFixed = 2 * kTokenBytes + sizeof(uint16_t);
  DS_CHECK(packed.size() >= kFixed && (packed.size() - kFixed) % sizeof(Ipv4) == 0)
      << packed.size() << " bytes";
  LinkInvitation result;
  std::memcpy(result.greeting.data(), packed.data(), kTokenBytes);
  std::memcpy(result.answer.data(), packed.data() + kTokenBytes, kTokenBytes);
  std::memcpy(&result.port, packed.data() + 2 * kTokenBytes, sizeof(result.port));
  result.addresses.resize((packed.size() - kFixed) / sizeof(Ipv4));
  packed.copy(reinterpret_cast<char*>(result.addresses.data()), packed.size() - kFixed, kFixed);
  return result;
}

absl::StatusOr<LinkListener> ListenForLinks(const LinkAddresses& addresses) {
  LinkListener result;
  result.socket = Descriptor(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!result.socket.open()) return Unavailable("control link: socket");
  sockaddr_in local = SocketAddress(addresses.listen, 0);
  if (bind(result.socket.fd(), reinterpret_cast<const sockaddr*>(&local), sizeof(local)) != 0 ||
      listen(result.socket.fd(), SOMAXCONN) != 0) {
    return Unavailable(
        absl::StrCat("control link: cannot listen on ", FormatIpv4(addresses.listen)));
  }
  socklen_t length = sizeof(local);
  getsockname(result.socket.fd(), reinterpret_cast<sockaddr*>(&local), &length);
  result.invitation.port = ntohs(local.sin_port);
  result.invitation.addresses = addresses.offered;
  result.invitation.greeting = RandomToken();
  result.invitation.answer = RandomToken();
  return result;
}

absl::StatusOr<std::vector<Descriptor>> AcceptLinks(const LinkListener& listener,
                                                    const std::vector<std::string>& hosts,
                                                    absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  Reception reception(listener, hosts.size());
  while (!reception.complete() && absl::Now() < deadline) reception.Step(deadline);
  if (reception.complete()) return reception.TakeLinks();
  std::vector<std::string> missing;
  for (size_t rank = 1; rank < hosts.size(); ++rank) {
    if (!reception.linked(rank))
      missing.push_back(absl::StrCat("rank ", rank, " on ", hosts[rank]));
  }
  const std::string offered =
      absl::StrJoin(listener.invitation.addresses, ", ",
                    [](std::string* out, Ipv4 address) { out->append(FormatIpv4(address)); });
  return absl::UnavailableError(absl::StrCat(
      "control link: ", absl::StrJoin(missing, ", "), " did not reach rank 0 on ", hosts[0], " at ",
      offered, " port ", listener.invitation.port, " within ", absl::FormatDuration(timeout),
      ": let TCP through between the hosts, or choose the network with the control address"));
}

absl::StatusOr<Descriptor> ConnectLink(const LinkInvitation& invitation,
                                       int rank,
                                       absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  std::vector<std::string> failures;
  for (size_t i = 0; i < invitation.addresses.size(); ++i) {
    // An address that swallows packets must leave time for the ones after it.
    const auto tries_left = static_cast<int64_t>(invitation.addresses.size() - i);
    const absl::Time until = absl::Now() + (deadline - absl::Now()) / tries_left;
    auto link = ConnectTo(invitation, invitation.addresses[i], rank, until);
    if (link.ok()) return link;
    failures.push_back(
        absl::StrCat(FormatIpv4(invitation.addresses[i]), ": ", link.status().message()));
  }
  return absl::UnavailableError(absl::StrCat("control link: rank ", rank,
                                             " cannot reach rank 0 at port ", invitation.port, " (",
                                             absl::StrJoin(failures, "; "), ")"));
}

}  // namespace deltaserve
