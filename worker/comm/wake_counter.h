#pragma once

// WakeCounter: the wakes that a rank was sent and has not used up, and why no more will come.

#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace deltaserve {

// Thread-safe. Owner: a control link.
class WakeCounter {
 public:
  void Add();

  // Waits and sleeps; see ControlLink::WaitForWake. Wakes that came before the end still count.
  absl::Status Take(absl::Time deadline);

  // No more wakes: Take() answers UNAVAILABLE with the first `reason` given.
  void End(const std::string& reason);

 private:
  bool Ready() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return wakes_ > 0 || ended_; }

  absl::Mutex mutex_;
  uint64_t wakes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::string reason_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace deltaserve
