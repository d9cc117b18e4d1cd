#include "worker/comm/thread_communicator.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/check.h"
#include "worker/comm/host_communicator.h"

namespace deltaserve {
namespace {

// Every call: meet with the addresses of the tensors, read the others' memory, meet again so that
// each may write to its own.
class ThreadCommunicator final : public HostCommunicator {
 public:
  ThreadCommunicator(int rank, std::shared_ptr<MeetingPoint> meeting_point, Device& device)
      : HostCommunicator(rank, meeting_point->size(), device),
        meeting_point_(std::move(meeting_point)) {}

  std::string Name() const override { return size() == 1 ? "single" : "threads"; }

 private:
  void SumInRankOrder(float* inout, size_t count) override {
    const auto ranks = static_cast<size_t>(size());
    const size_t slice = (count + ranks - 1) / ranks;
    if (sums_.size() < slice) sums_.resize(slice);
    const auto begin = [&](size_t r) { return std::min(count, r * slice); };

    if (!Meet({"AllReduceSum", count * sizeof(float), inout, sums_.data()})) return;
    const std::vector<MeetingPoint::Card> peers = cards_;
    const size_t first = begin(static_cast<size_t>(rank()));
    const size_t end = begin(static_cast<size_t>(rank()) + 1);
    for (size_t i = first; i < end; ++i) {
      float total = static_cast<const float*>(peers[0].in)[i];
      for (size_t r = 1; r < ranks; ++r) total += static_cast<const float*>(peers[r].in)[i];
      sums_[i - first] = total;
    }
    if (!Meet({"AllReduceSum, sums", 0, nullptr, nullptr})) return;
    for (size_t r = 0; r < ranks; ++r) {
      std::copy_n(static_cast<const float*>(peers[r].out), begin(r + 1) - begin(r),
                  inout + begin(r));
    }
    Meet({"AllReduceSum, end", 0, nullptr, nullptr});
  }

  void AllGatherBytes(const void* in, void* out, size_t bytes) override {
    if (!Meet({"AllGather", bytes, in, nullptr})) return;
    CopyAll(out, bytes);
    Meet({"AllGather, end", 0, nullptr, nullptr});
  }

  void GatherBytes(const void* in, void* out, size_t bytes, int root) override {
    if (!Meet({"Gather", bytes, in, nullptr})) return;
    if (rank() == root) CopyAll(out, bytes);
    Meet({"Gather, end", 0, nullptr, nullptr});
  }

  void BroadcastBytes(void* inout, size_t bytes, int root) override {
    if (!Meet({"Broadcast", bytes, inout, nullptr})) return;
    if (rank() != root) std::memcpy(inout, cards_[static_cast<size_t>(root)].in, bytes);
    Meet({"Broadcast, end", 0, nullptr, nullptr});
  }

  void ExchangeGrewTo(size_t bytes) override {
    const size_t floats = bytes / sizeof(float) / static_cast<size_t>(size()) + 1;
    if (sums_.size() < floats) sums_.resize(floats);
  }

  void CopyAll(void* out, size_t bytes) {
    for (size_t r = 0; r < cards_.size(); ++r) {
      std::memcpy(static_cast<std::byte*>(out) + r * bytes, cards_[r].in, bytes);
    }
  }

  bool Meet(const MeetingPoint::Card& card) { return meeting_point_->Meet(rank(), card, &cards_); }

  const std::shared_ptr<MeetingPoint> meeting_point_;
  std::vector<MeetingPoint::Card> cards_;  // of the last meeting
  std::vector<float> sums_;                // f32 [slice], read by the others
};

}  // namespace

std::unique_ptr<Communicator> CreateThreadCommunicator(ThreadWorld& world,
                                                       int rank,
                                                       Device& device) {
  return std::make_unique<ThreadCommunicator>(rank, world.meeting_point(), device);
}

std::unique_ptr<Communicator> CreateSingleCommunicator(Device& device) {
  return std::make_unique<ThreadCommunicator>(
      0, std::make_shared<MeetingPoint>(1, absl::InfiniteDuration()), device);
}

}  // namespace deltaserve
