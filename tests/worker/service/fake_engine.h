#pragma once

// FakeEngine: an EngineHandle whose engine thread is the test.

#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "worker/engine/engine.h"

namespace deltaserve {

// Longer than anything a test waits for; a test that waits for so long has failed.
inline constexpr absl::Duration kPatience = absl::Seconds(20);

// What a stream submitted.
struct Submitted {
  uint64_t ticket = 0;
  Request request;
  std::shared_ptr<RequestSink> sink;
};

class FakeEngine : public EngineHandle {
 public:
  FakeEngine() {
    capacity_.kv_blocks = 64;
    capacity_.slots = 8;
    capacity_.max_queue = 16;
    capacity_.max_context = 4096;
    capacity_.vocab_rows = 1024;
    capacity_.num_tokens = 1000;
    capacity_.kv_bytes_per_token = 2048;
    capacity_.state_bytes_per_slot = 1 << 20;
  }

  const EngineCapacity& capacity() const override { return capacity_; }

  absl::StatusOr<uint64_t> Submit(Request request, std::shared_ptr<RequestSink> sink) override {
    absl::MutexLock lock(&mutex_);
    if (!refusal_.ok()) return refusal_;
    const uint64_t ticket = ++last_ticket_;
    submitted_.push_back({ticket, std::move(request), std::move(sink)});
    return ticket;
  }

  void Cancel(uint64_t ticket) override {
    absl::MutexLock lock(&mutex_);
    cancelled_.insert(ticket);
  }

  void Expire(uint64_t ticket) override {
    absl::MutexLock lock(&mutex_);
    expired_.insert(ticket);
  }

  std::vector<std::string> Abort(const std::vector<std::string>& ids) override {
    absl::MutexLock lock(&mutex_);
    aborted_ = ids;
    return {ids.begin(), ids.begin() + 1};  // the first is running, the others are not
  }

  EngineLoad load() const override {
    absl::MutexLock lock(&mutex_);
    return load_;
  }

  void BeginDrain(absl::Time deadline, bool hand_over) override {
    absl::MutexLock lock(&mutex_);
    drain_ = {deadline, hand_over};
  }
  bool draining() const override {
    absl::MutexLock lock(&mutex_);
    return drain_.has_value();
  }

  // The test's side.
  void RefuseWith(absl::Status status) {
    absl::MutexLock lock(&mutex_);
    refusal_ = std::move(status);
  }
  void SetLoad(const EngineLoad& load) {
    absl::MutexLock lock(&mutex_);
    load_ = load;
  }
  // The next request submitted; one without a sink where none comes.
  Submitted Next() {
    absl::MutexLock lock(&mutex_);
    const auto any = [this] { return !submitted_.empty(); };
    if (!mutex_.AwaitWithTimeout(absl::Condition(&any), kPatience)) return {};
    Submitted next = std::move(submitted_.front());
    submitted_.pop_front();
    return next;
  }
  bool AwaitCancel(uint64_t ticket) {
    absl::MutexLock lock(&mutex_);
    const auto cancelled = [this, ticket] { return cancelled_.contains(ticket); };
    return mutex_.AwaitWithTimeout(absl::Condition(&cancelled), kPatience);
  }
  bool AwaitExpiry(uint64_t ticket) {
    absl::MutexLock lock(&mutex_);
    const auto expired = [this, ticket] { return expired_.contains(ticket); };
    return mutex_.AwaitWithTimeout(absl::Condition(&expired), kPatience);
  }
  bool WasCancelled(uint64_t ticket) {
    absl::MutexLock lock(&mutex_);
    return cancelled_.contains(ticket);
  }
  std::vector<std::string> aborted() {
    absl::MutexLock lock(&mutex_);
    return aborted_;
  }
  std::optional<std::pair<absl::Time, bool>> drain() {
    absl::MutexLock lock(&mutex_);
    return drain_;
  }

 private:
  EngineCapacity capacity_;
  mutable absl::Mutex mutex_;
  absl::Status refusal_;
  EngineLoad load_;
  uint64_t last_ticket_ = 0;
  std::deque<Submitted> submitted_;
  std::set<uint64_t> cancelled_;
  std::set<uint64_t> expired_;
  std::vector<std::string> aborted_;
  std::optional<std::pair<absl::Time, bool>> drain_;
};

}  // namespace deltaserve
