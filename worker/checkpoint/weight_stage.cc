#include "worker/checkpoint/weight_stage.h"

#include <algorithm>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace deltaserve {
namespace {

// Norms and the like share blocks of one size.
constexpr size_t kSmallestBlock = size_t{64} << 10;

}  // namespace

// Blocks of pinned memory, used again for items of about their size. Loading thread.
class WeightStage::Pool {
 public:
  Pool(Device& device, size_t budget) : device_(device), budget_(budget) {}

  // Whether the budget allows it beside what is in use.
  bool Allows(size_t bytes) const { return in_use_ + std::max(bytes, kSmallestBlock) <= budget_; }

  absl::StatusOr<Buffer> Acquire(size_t bytes) {
    bytes = std::max(bytes, kSmallestBlock);
    const auto fits = [&](const Buffer& block) {
      return block.bytes() >= bytes && block.bytes() <= 2 * bytes;
    };
    auto found = std::find_if(free_.begin(), free_.end(), fits);
    if (found != free_.end()) {
      Buffer block = std::move(*found);
      free_.erase(found);
      free_bytes_ -= block.bytes();
      in_use_ += block.bytes();
      return block;
    }
    while (!free_.empty() && in_use_ + free_bytes_ + bytes > budget_) {
      free_bytes_ -= free_.back().bytes();
      free_.pop_back();
    }
    DS_ASSIGN_OR_RETURN(Buffer block, device_.Allocate(bytes, MemoryKind::kHost));
    in_use_ += block.bytes();
    return block;
  }

  void Release(Buffer block) {
    in_use_ -= block.bytes();
    free_bytes_ += block.bytes();
    free_.push_back(std::move(block));
  }

 private:
  Device& device_;
  const size_t budget_;
  size_t in_use_ = 0;
  size_t free_bytes_ = 0;
  std::vector<Buffer> free_;
};

WeightStage::WeightStage(Device& device,
                         size_t budget,
                         const std::vector<size_t>& item_bytes,
                         Fill fill)
    : fill_(std::move(fill)), pool_(std::make_shared<Pool>(device, budget)) {
  for (const size_t bytes : item_bytes) items_.push_back({.bytes = bytes});
  thread_ = std::thread([this] { Run(); });
}

WeightStage::~WeightStage() {
  {
    const absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

absl::StatusOr<Buffer> WeightStage::Take(size_t item) {
  bool unread = false;
  {
    const absl::MutexLock lock(&mutex_);
    DS_CHECK(item < items_.size() && items_[item].state != State::kTaken) << item;
    unread = items_[item].state == State::kUnread;
  }
  if (unread) DS_RETURN_IF_ERROR(Ask(item, true));
  while (true) {
    size_t bytes = 0;
    {
      const absl::MutexLock lock(&mutex_);
      while (next_ < items_.size() && items_[next_].state != State::kUnread) ++next_;
      if (next_ == items_.size()) break;
      bytes = items_[next_].bytes;
    }
    if (!pool_->Allows(bytes)) break;
    DS_RETURN_IF_ERROR(Ask(next_, false));
  }
  const absl::MutexLock lock(&mutex_);
  Item& taken = items_[item];
  const auto is_read = [&taken] { return taken.state == State::kRead; };
  mutex_.Await(absl::Condition(&is_read));
  taken.state = State::kTaken;
  const size_t bytes = taken.bytes;
  auto block = std::make_shared<Buffer>(std::move(taken.memory));
  Buffer memory(block->data(), bytes,
                [pool = pool_, block](void* /*data*/) { pool->Release(std::move(*block)); });
  DS_RETURN_IF_ERROR(taken.status);
  return memory;
}

absl::Status WeightStage::Ask(size_t item, bool first) {
  size_t bytes = 0;
  {
    const absl::MutexLock lock(&mutex_);
    bytes = items_[item].bytes;
  }
  DS_ASSIGN_OR_RETURN(Buffer memory, pool_->Acquire(bytes));
  const absl::MutexLock lock(&mutex_);
  items_[item].memory = std::move(memory);
  items_[item].state = State::kAsked;
  if (first) {
    asked_.push_front(item);
  } else {
    asked_.push_back(item);
  }
  return absl::OkStatus();
}

void WeightStage::Run() {
  const auto has_work = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !asked_.empty();
  };
  while (true) {
    size_t item = 0;
    char* out = nullptr;
    {
      const absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&has_work));
      if (stopping_) return;
      item = asked_.front();
      asked_.pop_front();
      out = static_cast<char*>(items_[item].memory.data());
    }
    absl::Status status = fill_(item, out);
    const absl::MutexLock lock(&mutex_);
    items_[item].status = std::move(status);
    items_[item].state = State::kRead;
  }
}

}  // namespace deltaserve
