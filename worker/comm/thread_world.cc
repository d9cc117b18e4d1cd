#include "worker/comm/thread_world.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"

namespace deltaserve {

MeetingPoint::MeetingPoint(int size, absl::Duration patience)
    : size_(size),
      patience_(patience),
      arriving_(static_cast<size_t>(size)),
      here_(static_cast<size_t>(size), false) {}

bool MeetingPoint::Meet(int rank, const Card& card, std::vector<Card>* cards) {
  const absl::MutexLock lock(&mutex_);
  cards->clear();
  if (stopped_) return false;
  const auto me = static_cast<size_t>(rank);
  DS_CHECK(!here_[me]) << "rank " << rank << " meets twice at once";
  for (size_t other = 0; other < here_.size(); ++other) {
    if (!here_[other]) continue;
    const Card& theirs = arriving_[other];
    DS_CHECK(std::strcmp(theirs.call, card.call) == 0 && theirs.bytes == card.bytes)
        << "rank " << other << " calls " << theirs.call << " of " << theirs.bytes
        << " bytes while rank " << rank << " calls " << card.call << " of " << card.bytes;
  }
  arriving_[me] = card;
  here_[me] = true;
  const uint64_t mine = meeting_;
  if (++num_here_ == size_) {
    met_ = arriving_;
    here_.assign(here_.size(), false);
    num_here_ = 0;
    ++meeting_;
    changed_.SignalAll();
  }
  const absl::Time deadline = absl::Now() + patience_;
  while (meeting_ == mine && !stopped_) {
    if (!changed_.WaitWithDeadline(&mutex_, deadline) || meeting_ != mine || stopped_) continue;
    std::string absent;
    for (size_t other = 0; other < here_.size(); ++other) {
      if (!here_[other]) absl::StrAppend(&absent, " ", other);
    }
    DS_CHECK(false) << card.call << " waits for rank" << absent;
  }
  if (meeting_ == mine) return false;
  *cards = met_;
  return true;
}

void MeetingPoint::Stop() {
  const absl::MutexLock lock(&mutex_);
  stopped_ = true;
  changed_.SignalAll();
}

class ThreadWorld::Rank final : public World {
 public:
  Rank(int rank, int size, std::shared_ptr<MeetingPoint> meeting_point)
      : meeting_point_(std::move(meeting_point)) {
    info_.rank = info_.local_rank = rank;
    info_.size = info_.local_size = size;
    info_.host = "thread-world";
  }

  const RankInfo& info() const override { return info_; }

  // After Stop(): nothing from anybody.
  std::vector<std::string> AllGather(const std::string& mine) override {
    std::vector<std::string> all(static_cast<size_t>(info_.size));
    std::vector<MeetingPoint::Card> cards;
    meeting_point_->Meet(info_.rank, {.call = "World::AllGather", .in = &mine}, &cards);
    for (size_t i = 0; i < cards.size(); ++i) {
      all[i] = *static_cast<const std::string*>(cards[i].in);
    }
    meeting_point_->Meet(info_.rank, {.call = "World::AllGather, end"}, &cards);
    return all;
  }

  std::string BroadcastFromZero(const std::string& bytes) override {
    return AllGather(info_.rank == 0 ? bytes : std::string())[0];
  }

 private:
  const std::shared_ptr<MeetingPoint> meeting_point_;
  RankInfo info_;
};

ThreadWorld::ThreadWorld(int size, absl::Duration patience)
    : meeting_point_(std::make_shared<MeetingPoint>(size, patience)) {
  DS_CHECK_GE(size, 1);
  for (int rank = 0; rank < size; ++rank) {
    ranks_.push_back(std::make_unique<Rank>(rank, size, meeting_point_));
  }
}

ThreadWorld::~ThreadWorld() = default;

World& ThreadWorld::world(int rank) {
  DS_CHECK(rank >= 0 && rank < size()) << "rank " << rank << " of " << size();
  return *ranks_[static_cast<size_t>(rank)];
}

}  // namespace deltaserve
