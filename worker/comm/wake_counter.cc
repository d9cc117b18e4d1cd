#include "worker/comm/wake_counter.h"

namespace deltaserve {

void WakeCounter::Add() {
  const absl::MutexLock lock(&mutex_);
  ++wakes_;
}

absl::Status WakeCounter::Take(absl::Time deadline) {
  const absl::MutexLock lock(&mutex_);
  if (!mutex_.AwaitWithDeadline(absl::Condition(this, &WakeCounter::Ready), deadline)) {
    return absl::DeadlineExceededError("no wake from rank 0 by the deadline");
  }
  if (wakes_ == 0) return absl::UnavailableError(reason_);
  --wakes_;
  return absl::OkStatus();
}

void WakeCounter::End(const std::string& reason) {
  const absl::MutexLock lock(&mutex_);
  if (ended_) return;
  ended_ = true;
  reason_ = reason;
}

}  // namespace deltaserve
