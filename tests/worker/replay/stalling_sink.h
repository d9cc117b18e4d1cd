#pragma once

// A disk that stalls or is full when a test says so.

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "gtest/gtest.h"
#include "worker/replay/recording_writer.h"

namespace deltaserve {

// Longer than anything a test waits for.
inline constexpr absl::Duration kSinkPatience = absl::Seconds(20);

// Any thread.
class Disk {
 public:
  void Stall() {
    const absl::MutexLock lock(&mutex_);
    is_stalled_ = true;
  }
  void Go() {
    const absl::MutexLock lock(&mutex_);
    is_stalled_ = false;
  }
  // All writes after so many fail.
  void FailAfter(int writes) {
    const absl::MutexLock lock(&mutex_);
    writes_left_ = writes;
  }
  void StallAfter(int writes) {
    const absl::MutexLock lock(&mutex_);
    stalls_after_ = writes;
  }

  absl::Status Write(std::span<const uint8_t> bytes) {
    const absl::MutexLock lock(&mutex_);
    if (stalls_after_.has_value() && (*stalls_after_)-- == 0) is_stalled_ = true;
    mutex_.Await(absl::Condition(
        +[](Disk* disk) { return !disk->is_stalled_; }, this));
    if (writes_left_.has_value() && (*writes_left_)-- <= 0) {
      return absl::DataLossError("no space");
    }
    bytes_.append(bytes.begin(), bytes.end());
    return absl::OkStatus();
  }
  std::string bytes() const {
    const absl::MutexLock lock(&mutex_);
    return bytes_;
  }

  // Until no sink writes here any more.
  void AwaitGone() {
    const absl::MutexLock lock(&mutex_);
    EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(
                                            +[](Disk* disk) { return disk->is_gone_; }, this),
                                        kSinkPatience));
  }
  void SetGone() {
    const absl::MutexLock lock(&mutex_);
    is_gone_ = true;
  }

 private:
  mutable absl::Mutex mutex_;
  bool is_stalled_ = false;
  bool is_gone_ = false;
  std::optional<int> writes_left_, stalls_after_;
  std::string bytes_;
};

class StallingSink final : public RecordingSink {
 public:
  explicit StallingSink(std::shared_ptr<Disk> disk) : disk_(std::move(disk)) {}
  ~StallingSink() override { disk_->SetGone(); }
  const std::string& path() const override { return path_; }
  absl::Status Write(std::span<const uint8_t> bytes) override { return disk_->Write(bytes); }

 private:
  const std::string path_ = "DISK";
  const std::shared_ptr<Disk> disk_;
};

}  // namespace deltaserve
