#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "worker/comm/control_link.h"
#include "worker/comm/link_address.h"
#include "worker/comm/link_frames.h"
#include "worker/comm/link_handshake.h"
#include "worker/comm/wake_counter.h"

namespace deltaserve {
namespace {

using Clock = std::chrono::steady_clock;

// One rank's end of the star: rank 0 has a peer for each other rank, those have one, rank 0. The
// link's thread reads; any thread may send, since short sends on a socket do not mix.
class TcpControlLink final : public ControlLink {
 public:
  TcpControlLink(int rank,
                 std::vector<std::string> hosts,
                 std::vector<Descriptor> sockets,
                 const ControlLinkOptions& options,
                 OnPeerLost on_peer_lost)
      : rank_(rank),
        hosts_(std::move(hosts)),
        options_(options),
        on_peer_lost_(std::move(on_peer_lost)),
        stop_event_(eventfd(0, EFD_CLOEXEC)) {
    DS_CHECK(stop_event_.open()) << std::strerror(errno);
    for (size_t r = 0; r < sockets.size(); ++r) {
      if (!sockets[r].open()) continue;
      peers_.push_back(std::make_unique<Peer>());
      peers_.back()->rank = static_cast<int>(r);
      peers_.back()->socket = std::move(sockets[r]);
      peers_.back()->last_heard = Clock::now();
    }
    if (!peers_.empty()) thread_ = std::thread([this] { Run(); });
  }

  ~TcpControlLink() override { StopThread(); }

  void Wake() override {
    DS_CHECK_EQ(rank_, 0) << "only rank 0 wakes others";
    SendToAll(std::string(1, static_cast<char>(LinkFrame::kWake)));
  }

  absl::Status WaitForWake(absl::Time deadline) override {
    DS_CHECK(rank_ != 0) << "rank 0 is woken by requests";
    return wakes_.Take(deadline);
  }

  void SendLastWords(const PeerLoss& root) override {
    // To lost ranks too: one that was only stopped learns on going on why the others are gone.
    const std::string frame = PackLastWords(root);
    for (const auto& peer : peers_) SendNow(*peer, frame);
  }

  std::vector<PeerAge> PeerAges() const override {
    std::vector<PeerAge> ages;
    for (const auto& peer : peers_) {
      if (!peer->watched) continue;
      const Clock::time_point heard = peer->last_heard;
      ages.push_back({.rank = peer->rank, .age = absl::FromChrono(Clock::now() - heard)});
    }
    return ages;
  }

  void Close() override {
    closing_ = true;
    const std::string goodbye(1, static_cast<char>(LinkFrame::kGoodbye));
    // To those too that have said goodbye: they may still watch this rank.
    for (const auto& peer : peers_) SendNow(*peer, goodbye);
    StopThread();
    wakes_.End("this rank has closed its control link");
  }

 private:
  struct Peer {
    int rank = 0;
    Descriptor socket;
    std::atomic<bool> watched{true};            // false once it has said goodbye or is lost
    std::atomic<Clock::time_point> last_heard;  // written by the link's thread
    LinkFrameReader reader;                     // the link's thread only
  };

  void Run() {
    const auto heartbeat = absl::ToChronoMilliseconds(options_.heartbeat);
    const auto silence = absl::ToChronoMilliseconds(options_.silence);
    Clock::time_point next_beat = Clock::now();
    Clock::time_point last_round = next_beat;
    while (true) {
      if (Clock::now() >= next_beat) {
        SendToAll(std::string(1, static_cast<char>(LinkFrame::kHeartbeat)));
        next_beat = Clock::now() + heartbeat;
      }
      if (WaitForBytes(next_beat)) return;
      const Clock::time_point now = Clock::now();
      // This process itself was stopped: what it did not hear meanwhile proves nothing.
      const bool was_away = now - last_round > heartbeat + silence / 2;
      last_round = now;
      for (const auto& peer : peers_) {
        if (was_away) peer->last_heard = now;
        if (peer->watched && now - peer->last_heard.load() > silence) {
          Lose(*peer,
               absl::StrCat("nothing heard from it for ", absl::FormatDuration(options_.silence),
                            ": process stopped, host dead or network cut"));
        }
      }
    }
  }

  // Reads what comes until `deadline`, but once at least; true when the link is to stop.
  bool WaitForBytes(Clock::time_point deadline) {
    std::vector<pollfd> entries;
    entries.push_back({.fd = stop_event_.fd(), .events = POLLIN, .revents = 0});
    for (const auto& peer : peers_) {
      entries.push_back(
          {.fd = peer->watched ? peer->socket.fd() : -1, .events = POLLIN, .revents = 0});
    }
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    const int timeout_ms = static_cast<int>(std::max<int64_t>(0, left.count()));
    if (poll(entries.data(), entries.size(), timeout_ms) <= 0) return false;
    if (entries[0].revents != 0) return true;
    for (size_t i = 0; i < peers_.size(); ++i) {
      if (entries[i + 1].revents != 0) Hear(*peers_[i]);
    }
    return false;
  }

  void Hear(Peer& peer) {
    const LinkFrameReader::Handler handler = {
        .on_frame = [&](LinkFrame frame) { OnFrame(peer, frame); },
        .on_last_words = [&](const PeerLoss& root) { OnLastWords(peer, root); }};
    while (peer.watched) {
      char buffer[4096];
      const ssize_t got = recv(peer.socket.fd(), buffer, sizeof(buffer), MSG_DONTWAIT);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno == EAGAIN) return;
      // A process that ends with heartbeats unread resets its connections.
      if (got == 0 || (got < 0 && errno == ECONNRESET)) {
        return Lose(peer, "its control link closed: killed or crashed");
      }
      if (got < 0) {
        return Lose(peer, absl::StrCat("its control link broke: ", std::strerror(errno)));
      }
      peer.last_heard = Clock::now();
      if (!peer.reader.Read(buffer, static_cast<size_t>(got), handler)) {
        return Lose(peer, "its control link carries bytes that no rank sends");
      }
    }
  }

  void OnFrame(Peer& peer, LinkFrame frame) {
    if (frame == LinkFrame::kWake) wakes_.Add();
    if (frame != LinkFrame::kGoodbye) return;
    peer.watched = false;
    if (peer.rank == 0) wakes_.End("rank 0 has closed its control link");
  }

  void OnLastWords(Peer& peer, PeerLoss root) {
    if (!peer.watched) return;
    peer.watched = false;
    const auto index = static_cast<size_t>(root.rank);
    root.host = index < hosts_.size() ? hosts_[index] : "an unknown host";
    Report(root);
  }

  void Lose(Peer& peer, const std::string& cause) {
    peer.watched = false;
    Report({.rank = peer.rank,
            .host = hosts_[static_cast<size_t>(peer.rank)],
            .cause = cause,
            .exit_code = kExitWatchdog});
  }

  void Report(const PeerLoss& loss) {
    if (closing_) return;
    // First, so that this thread tells the cause, not whoever it lets out of WaitForWake.
    on_peer_lost_(loss);
    if (rank_ != 0) {
      wakes_.End(absl::StrCat("lost rank ", loss.rank, " on ", loss.host, ": ", loss.cause));
    }
  }

  // Never waits. A peer that takes no more bytes has read none for long: its silence is noticed.
  static void SendNow(const Peer& peer, const std::string& bytes) {
    while (send(peer.socket.fd(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
           errno == EINTR) {
    }
  }

  static void Send(const Peer& peer, const std::string& bytes) {
    if (peer.watched) SendNow(peer, bytes);
  }

  void SendToAll(const std::string& bytes) {
    for (const auto& peer : peers_) Send(*peer, bytes);
  }

  void StopThread() {
    if (!thread_.joinable()) return;
    const uint64_t one = 1;
    DS_CHECK(write(stop_event_.fd(), &one, sizeof(one)) == sizeof(one)) << std::strerror(errno);
    thread_.join();
  }

  const int rank_;
  const std::vector<std::string> hosts_;  // by rank
  const ControlLinkOptions options_;
  const OnPeerLost on_peer_lost_;
  const Descriptor stop_event_;
  WakeCounter wakes_;
  std::atomic<bool> closing_{false};  // the ends of peers are no deaths any more
  std::vector<std::unique_ptr<Peer>> peers_;
  std::thread thread_;
};

absl::Status CheckOptions(const ControlLinkOptions& options) {
  if (options.heartbeat < absl::Milliseconds(1) || options.silence < 2 * options.heartbeat) {
    return absl::InvalidArgumentError(
        absl::StrCat("control link: silence of ", absl::FormatDuration(options.silence),
                     " is too short for a heartbeat each ", absl::FormatDuration(options.heartbeat),
                     ": give at least twice as much, and a heartbeat of 1ms or more"));
  }
  return absl::OkStatus();
}

absl::StatusOr<LinkListener> Listen(const RankInfo& info, const ControlLinkOptions& options) {
  DS_RETURN_IF_ERROR(CheckOptions(options));
  DS_ASSIGN_OR_RETURN(const std::vector<Ipv4> host, HostAddresses());
  DS_ASSIGN_OR_RETURN(const LinkAddresses addresses,
                      ChooseLinkAddresses(options.address, info.local_size == info.size, host));
  return ListenForLinks(addresses);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ControlLink>> CreateTcpControlLink(World& world,
                                                                  const ControlLinkOptions& options,
                                                                  OnPeerLost on_peer_lost) {
  const RankInfo& info = world.info();
  const std::vector<std::string> hosts = world.AllGather(info.host);
  std::vector<Descriptor> sockets(hosts.size());
  if (info.size > 1) {
    absl::StatusOr<LinkListener> listener = LinkListener{};
    if (info.rank == 0) listener = Listen(info, options);
    DS_RETURN_IF_ERROR(world.AgreeOnStatus(listener.status()));
    const LinkInvitation invitation =
        LinkInvitation::Unpack(world.BroadcastFromZero(listener->invitation.Pack()));

    absl::Status linked;
    if (info.rank == 0) {
      auto accepted = AcceptLinks(*listener, hosts, options.connect_timeout);
      linked = accepted.status();
      if (accepted.ok()) sockets = *std::move(accepted);
    } else {
      auto link = ConnectLink(invitation, info.rank, options.connect_timeout);
      linked = link.status();
      if (link.ok()) sockets[0] = *std::move(link);
    }
    DS_RETURN_IF_ERROR(world.AgreeOnStatus(linked));
  }
  return std::unique_ptr<ControlLink>(std::make_unique<TcpControlLink>(
      info.rank, hosts, std::move(sockets), options, std::move(on_peer_lost)));
}

}  // namespace deltaserve
