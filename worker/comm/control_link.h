#pragma once

// ControlLink: the way between rank 0 and each other rank that is not MPI. It wakes ranks that
// sleep while there is no work (MPI always spins), and finds out in seconds that a rank is dead or
// cut off (MPI says nothing for minutes).

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/comm/last_words.h"
#include "worker/comm/thread_world.h"
#include "worker/comm/world.h"

namespace deltaserve {

struct ControlLinkOptions {
  // Where rank 0 listens: an IPv4 address of its host, or a network such as "10.77.0.0/24" in which
  // it has one. Empty: 127.0.0.1 where all ranks are on one host, else every address of the host,
  // of which the others take the first that answers. Looked at on rank 0 only.
  std::string address = {};
  absl::Duration heartbeat = absl::Seconds(1);
  // After it a peer is lost. Longer than mpirun needs to see that a host is cut off (6 s with its
  // keepalive of 2 s and 3 probes): where ranks end first it waits for that host for minutes.
  absl::Duration silence = absl::Seconds(10);
  absl::Duration connect_timeout = absl::Seconds(20);
};

// How long ago a linked rank was last heard.
struct PeerAge {
  int rank = 0;
  absl::Duration age;
};

// A rank that is lost or has sent last words. Called on the link's own thread, once for a peer; on
// a rank other than 0 it may tell of a third rank. Usually LastWords::DieOfPeer.
using OnPeerLost = std::function<void(const PeerLoss& loss)>;

// Wake and WaitForWake: the engine thread. SendLastWords, PeerAges: any. Owner: main; destroyed
// after Close() or to end at once (peers then see a death).
class ControlLink {
 public:
  virtual ~ControlLink() = default;

  // Rank 0 only: lets each other rank return from one WaitForWake(). Wakes are counted and not
  // lost if they come before the wait, so rank 0 sends one for each idle plan, no more.
  virtual void Wake() = 0;

  // Other ranks: sleeps until a wake that no earlier call has used up. DEADLINE_EXCEEDED;
  // UNAVAILABLE once rank 0 is lost or has closed, or after Close().
  virtual absl::Status WaitForWake(absl::Time deadline) = 0;

  // Tells the others who ended and why, as far as that goes without waiting.
  virtual void SendLastWords(const PeerLoss& root) = 0;

  // Of each rank that this one watches by heartbeats, in rank order: on rank 0 every other one,
  // until it is lost or has said goodbye. Empty between threads, which have no heartbeats.
  virtual std::vector<PeerAge> PeerAges() const = 0;

  // Says goodbye, so that the end of this link is no death to its peers; then nothing is watched
  // any more. Call at the end of a drain, on every rank, before the world ends. Idempotent.
  virtual void Close() = 0;
};

// Over TCP, links between rank 0 and each other one. Collective: address and a secret token travel
// over `world`, so that nobody else can link up. On failure every rank gets the same status:
// INVALID_ARGUMENT for an address that rank 0's host does not have, UNAVAILABLE for ranks that
// could not link. `world` is used during this call only. A world of one rank opens no socket.
absl::StatusOr<std::unique_ptr<ControlLink>> CreateTcpControlLink(World& world,
                                                                  const ControlLinkOptions& options,
                                                                  OnPeerLost on_peer_lost);

// The links of a ThreadWorld, in memory; collective. A link destroyed without Close() is a death
// to the others, at once; there are no heartbeats.
std::unique_ptr<ControlLink> CreateThreadControlLink(ThreadWorld& world,
                                                     int rank,
                                                     OnPeerLost on_peer_lost);

}  // namespace deltaserve
