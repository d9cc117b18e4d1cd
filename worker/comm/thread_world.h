#pragma once

// ThreadWorld: N ranks as N threads of one process, for tests of everything above the network.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "worker/comm/world.h"

namespace deltaserve {

// Where the threads of a ThreadWorld meet. Each rank brings a description of its call and two
// addresses; when all have come, every rank sees those of all. Checks that all ranks make the same
// call, which over MPI would hang or corrupt. Any thread; owner: ThreadWorld.
class MeetingPoint {
 public:
  // What one rank brings to a meeting; the addresses are read by others until the next Meet().
  struct Card {
    const char* call = "";  // "AllReduceSum"; equal on all ranks
    uint64_t bytes = 0;     // equal on all ranks
    const void* in = nullptr;
    void* out = nullptr;
  };

  // Ranks that do not come within `patience` are named by a failed check.
  MeetingPoint(int size, absl::Duration patience);

  // Blocks until every rank has come. False once Stop() was called: the cards are then empty and
  // the caller leaves its outputs as they are.
  bool Meet(int rank, const Card& card, std::vector<Card>* cards);

  // Ends every meeting, now and later.
  void Stop();

  int size() const { return size_; }

 private:
  const int size_;
  const absl::Duration patience_;
  absl::Mutex mutex_;
  absl::CondVar changed_;
  std::vector<Card> arriving_ ABSL_GUARDED_BY(mutex_);
  std::vector<bool> here_ ABSL_GUARDED_BY(mutex_);
  int num_here_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t meeting_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<Card> met_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

// Made by the test; outlives the threads and all that they make from it. Thread r uses world(r)
// only; different ranks may be on different threads at once.
class ThreadWorld {
 public:
  // A rank that stays away from a collective for `patience` is a failed check.
  explicit ThreadWorld(int size, absl::Duration patience = absl::Seconds(120));
  ~ThreadWorld();
  ThreadWorld(const ThreadWorld&) = delete;
  ThreadWorld& operator=(const ThreadWorld&) = delete;

  int size() const { return static_cast<int>(ranks_.size()); }
  // Rank `rank`'s view; host "thread-world", one node.
  World& world(int rank);
  // For steps' collectives and for those of start-up; shared, since communicators may outlive this.
  std::shared_ptr<MeetingPoint> meeting_point() const { return meeting_point_; }

  // Lets every rank out of every collective, with its outputs as they were: how a test ends a world
  // of which one rank has failed. Any thread.
  void Stop() { meeting_point_->Stop(); }

 private:
  class Rank;

  std::shared_ptr<MeetingPoint> meeting_point_;
  std::vector<std::unique_ptr<Rank>> ranks_;
};

}  // namespace deltaserve
