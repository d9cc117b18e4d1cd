#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "kernels/base/check.h"
#include "worker/comm/control_link.h"
#include "worker/comm/wake_counter.h"

namespace deltaserve {
namespace {

// What the links of one world share.
class Switchboard {
 public:
  explicit Switchboard(int size) : seats_(static_cast<size_t>(size)) {}

  WakeCounter& wakes(int rank) { return seats_[static_cast<size_t>(rank)].wakes; }

  void Sit(int rank, OnPeerLost on_peer_lost) {
    const absl::MutexLock lock(&mutex_);
    Seat& seat = seats_[static_cast<size_t>(rank)];
    seat.on_peer_lost = std::move(on_peer_lost);
    seat.watching = true;
  }

  // No call to on_peer_lost of `rank` after this.
  void Leave(int rank) {
    const absl::MutexLock lock(&mutex_);
    Seat& seat = seats_[static_cast<size_t>(rank)];
    seat.watching = false;
    mutex_.Await(absl::Condition(
        +[](Seat* waiting) { return waiting->calls_running == 0; }, &seat));
  }

  // Rank `from` tells its peers: rank 0 the others, another rank rank 0.
  void Tell(int from, const PeerLoss& loss) {
    if (from != 0) return TellOne(from, 0, loss);
    for (int rank = 1; rank < static_cast<int>(seats_.size()); ++rank) TellOne(from, rank, loss);
  }

 private:
  struct Seat {
    WakeCounter wakes;
    OnPeerLost on_peer_lost;
    bool watching = false;
    int calls_running = 0;
    std::vector<int> lost;  // peers it has been told of
  };

  void TellOne(int from, int to, const PeerLoss& loss) {
    Seat& seat = seats_[static_cast<size_t>(to)];
    {
      const absl::MutexLock lock(&mutex_);
      const bool known = std::count(seat.lost.begin(), seat.lost.end(), from) != 0;
      if (!seat.watching || known) return;
      seat.lost.push_back(from);
      ++seat.calls_running;
    }
    seat.on_peer_lost(loss);
    if (to != 0) {
      seat.wakes.End(absl::StrCat("lost rank ", loss.rank, " on ", loss.host, ": ", loss.cause));
    }
    const absl::MutexLock lock(&mutex_);
    --seat.calls_running;
  }

  absl::Mutex mutex_;
  std::vector<Seat> seats_;  // all but `wakes` and the call itself under mutex_
};

class ThreadControlLink final : public ControlLink {
 public:
  ThreadControlLink(const RankInfo& info, std::shared_ptr<Switchboard> switchboard)
      : info_(info), switchboard_(std::move(switchboard)) {}

  ~ThreadControlLink() override {
    if (closed_) return;
    switchboard_->Leave(info_.rank);
    switchboard_->Tell(info_.rank, {.rank = info_.rank,
                                    .host = info_.host,
                                    .cause = "its control link closed: killed or crashed",
                                    .exit_code = kExitWatchdog});
  }

  void Wake() override {
    DS_CHECK_EQ(info_.rank, 0) << "only rank 0 wakes others";
    for (int rank = 1; rank < info_.size; ++rank) switchboard_->wakes(rank).Add();
  }

  absl::Status WaitForWake(absl::Time deadline) override {
    DS_CHECK(info_.rank != 0) << "rank 0 is woken by requests";
    return switchboard_->wakes(info_.rank).Take(deadline);
  }

  void SendLastWords(const PeerLoss& root) override { switchboard_->Tell(info_.rank, root); }

  std::vector<PeerAge> PeerAges() const override { return {}; }

  void Close() override {
    if (std::exchange(closed_, true)) return;
    switchboard_->Leave(info_.rank);
    switchboard_->wakes(info_.rank).End("this rank has closed its control link");
    if (info_.rank != 0) return;
    for (int rank = 1; rank < info_.size; ++rank) {
      switchboard_->wakes(rank).End("rank 0 has closed its control link");
    }
  }

 private:
  const RankInfo info_;
  const std::shared_ptr<Switchboard> switchboard_;
  bool closed_ = false;
};

}  // namespace

std::unique_ptr<ControlLink> CreateThreadControlLink(ThreadWorld& world,
                                                     int rank,
                                                     OnPeerLost on_peer_lost) {
  const std::shared_ptr<MeetingPoint> meeting_point = world.meeting_point();
  std::shared_ptr<Switchboard> switchboard;
  if (rank == 0) switchboard = std::make_shared<Switchboard>(world.size());
  std::vector<MeetingPoint::Card> cards;
  const bool met = meeting_point->Meet(rank, {"ControlLink", 0, &switchboard, nullptr}, &cards);
  DS_CHECK(met) << "the world of threads was stopped";
  // Rank 0 has it: writing it would race with the others, which read it.
  if (rank != 0) switchboard = *static_cast<const std::shared_ptr<Switchboard>*>(cards[0].in);
  switchboard->Sit(rank, std::move(on_peer_lost));
  meeting_point->Meet(rank, {"ControlLink, end", 0, nullptr, nullptr}, &cards);
  return std::make_unique<ThreadControlLink>(world.world(rank).info(), switchboard);
}

}  // namespace deltaserve
