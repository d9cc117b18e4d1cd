#pragma once

// WeightStage: weights on their way to a device that the host does not reach, in pinned memory, a
// bounded amount at a time.

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "kernels/device.h"

namespace deltaserve {

// A thread reads items in order, ahead of those who take them as far as the budget goes: so reading
// one goes on beside the copying of another. Pinned memory is slow to make and is used again. The
// loading thread calls all and frees what Take() gave; it alone allocates. Owner: WeightLoader.
class WeightStage {
 public:
  // Writes all bytes of an item; called by the stage's thread, one at a time.
  using Fill = std::function<absl::Status(size_t item, char* out)>;

  // `budget`: bytes of pinned memory, of what was taken and not yet freed too. An item that is
  // asked for is read whether it fits or not, so that the most is the larger of the budget and what
  // is held at once. `device` outlives the stage and what it gave.
  WeightStage(Device& device, size_t budget, const std::vector<size_t>& item_bytes, Fill fill);
  // Waits for the item that is being read.
  ~WeightStage();
  WeightStage(const WeightStage&) = delete;
  WeightStage& operator=(const WeightStage&) = delete;

  // Waits until the item is read. Its memory must stay until copies from it are done, and goes back
  // to the stage when it is freed. Each item once. Errors are those of Fill and Device::Allocate.
  absl::StatusOr<Buffer> Take(size_t item);

 private:
  class Pool;
  enum class State { kUnread, kAsked, kRead, kTaken };
  struct Item {
    size_t bytes = 0;
    State state = State::kUnread;
    Buffer memory = {};
    absl::Status status = {};
  };

  // Has the thread read `item`, next of all where `first`.
  absl::Status Ask(size_t item, bool first);
  void Run();

  const Fill fill_;
  const std::shared_ptr<Pool> pool_;  // shared with the buffers given out
  size_t next_ = 0;                   // of reading ahead; loading thread only
  absl::Mutex mutex_;
  std::vector<Item> items_ ABSL_GUARDED_BY(mutex_);
  std::deque<size_t> asked_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace deltaserve
