#pragma once

// LastWords: how a rank ends when it must: one line that names the root cause, then _exit.

#include <atomic>
#include <functional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "worker/comm/communicator.h"

namespace deltaserve {

// Exit codes of a rank. 0 is a drain that went well.
inline constexpr int kExitConfiguration = 64;  // impossible flags, model or degree
inline constexpr int kExitWatchdog = 70;       // a late step, a lost peer, a broken invariant
inline constexpr int kExitNccl = 71;
inline constexpr int kExitDivergence = 72;  // ranks no longer agree on plans or results
inline constexpr int kExitRetry = 75;       // may work when tried again

// How another rank ended, as the control link tells it.
struct PeerLoss {
  int rank = 0;
  std::string host = {};
  // "its control link closed: killed or crashed", "nothing heard for 10s: ...", or the peer's own
  // last words.
  std::string cause = {};
  int exit_code = kExitWatchdog;
};

// Writes at most one line to stderr, whoever comes first:
//
//   deltaserve-worker: rank 1 on node-b: step 812 has run for 31s, 30s allowed
//
// on the rank that found the cause, and on those that only follow
//
//   deltaserve-worker: rank 0 on node-a: ends with rank 1 on node-b: step 812 has run ...
//
// Thread-safe; never calls MPI. Owner: main; made right after RankInfo and outlives control link
// and watchdog.
class LastWords {
 public:
  // Tells the other ranks (ControlLink::SendLastWords); must not block.
  using Farewell = std::function<void(const PeerLoss& root)>;

  struct Options {
    std::string program = "deltaserve-worker";
    // Ends the process and runs nothing of ours on the way. A test gives one that returns; Die()
    // then returns too.
    std::function<void(int exit_code)> exit;  // empty: _exit
    int output_fd = 2;
  };

  LastWords(const RankInfo& info, Options options);
  LastWords(const LastWords&) = delete;
  LastWords& operator=(const LastWords&) = delete;

  // Ends the process: this rank is the root cause. Tells the others first. A second caller, on any
  // thread, writes nothing and waits for the end.
  void Die(int exit_code, const std::string& cause);

  // Ends the process because of `loss` on another rank, passing it on first. Where `loss` is of
  // this rank (it was stopped, the others have ended and it goes on) the line says so.
  void DieOfPeer(const PeerLoss& loss);

  // Sets the way to the others; an empty one takes it away (before the link is destroyed).
  void SetFarewell(Farewell farewell);

  bool spoken() const { return spoken_.load(); }

 private:
  void End(const std::string& line, const PeerLoss& root);
  void Write(const std::string& line) const;

  const RankInfo info_;
  const Options options_;
  std::atomic<bool> spoken_{false};
  absl::Notification ended_;  // after exit(), so only where a test's exit returned
  absl::Mutex mutex_;
  Farewell farewell_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace deltaserve
