#include "worker/comm/host_communicator.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace deltaserve {

// Address ranges of the exchange buffers that live.
class HostCommunicator::ExchangeRegions {
 public:
  void Add(const void* begin, size_t bytes) {
    const absl::MutexLock lock(&mutex_);
    ends_[static_cast<const std::byte*>(begin)] = static_cast<const std::byte*>(begin) + bytes;
  }

  void Remove(const void* begin) {
    const absl::MutexLock lock(&mutex_);
    ends_.erase(static_cast<const std::byte*>(begin));
  }

  bool Contains(const void* begin, size_t bytes) {
    const absl::MutexLock lock(&mutex_);
    const auto* first = static_cast<const std::byte*>(begin);
    auto after = ends_.upper_bound(first);
    return after != ends_.begin() && first + bytes <= std::prev(after)->second;
  }

 private:
  absl::Mutex mutex_;
  std::map<const std::byte*, const std::byte*> ends_ ABSL_GUARDED_BY(mutex_);
};

// One call that moves `bytes`, timed as long as this lives.
class HostCommunicator::Counted {
 public:
  Counted(HostCommunicator& owner, size_t bytes) : owner_(owner), start_(Clock::now()) {
    owner_.calls_.fetch_add(1, std::memory_order_relaxed);
    owner_.bytes_.fetch_add(bytes, std::memory_order_relaxed);
  }
  ~Counted() {
    const std::chrono::nanoseconds took = Clock::now() - start_;
    owner_.nanoseconds_.fetch_add(took.count(), std::memory_order_relaxed);
  }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

 private:
  using Clock = std::chrono::steady_clock;

  HostCommunicator& owner_;
  const Clock::time_point start_;
};

HostCommunicator::HostCommunicator(int rank, int size, Device& device)
    : rank_(rank), size_(size), device_(device), regions_(std::make_shared<ExchangeRegions>()) {
  DS_CHECK(rank >= 0 && rank < size) << "rank " << rank << " of " << size;
  DS_CHECK_OK(CheckHostReach("of the host", device, size));
}

absl::StatusOr<Buffer> HostCommunicator::AllocateExchange(size_t bytes) {
  DS_ASSIGN_OR_RETURN(Buffer memory, device_.Allocate(bytes, MemoryKind::kDevice));
  regions_->Add(memory.data(), bytes);
  if (size_ > 1) ExchangeGrewTo(bytes);
  void* const data = memory.data();
  auto owned = std::make_shared<Buffer>(std::move(memory));
  return Buffer(data, bytes, [regions = regions_, owned](void* address) {
    regions->Remove(address);
    *owned = Buffer();
  });
}

void HostCommunicator::AllReduceSum(TensorView inout) {
  CheckExchange(inout);
  if (size_ == 1 || inout.numel() == 0) return;
  const Counted counted(*this, inout.bytes());
  SumInRankOrder(inout.as<float>(), static_cast<size_t>(inout.numel()));
}

void HostCommunicator::CheckExchange(TensorView tensor) const {
  DS_CHECK(tensor.dtype() == device_.numerics().reduction) << tensor.ToString();
  DS_CHECK(tensor.numel() == 0 || regions_->Contains(tensor.data(), tensor.bytes()))
      << tensor.ToString() << " lies in no buffer of AllocateExchange";
}

TensorView HostCommunicator::SumOrParts(TensorView partial) {
  SumInRankOrder(partial.as<float>(), static_cast<size_t>(partial.numel()));
  return partial;
}

void HostCommunicator::ReduceAddNorm(const ReduceAddNormArgs& args) {
  CheckExchange(args.partial);
  TensorView delta = args.partial;
  if (size_ > 1 && delta.numel() > 0) {
    const Counted counted(*this, delta.bytes());
    delta = SumOrParts(args.partial);
  }
  device_.ops().AddRmsNorm({.delta = delta,
                            .residual = args.residual,
                            .weight = args.weight,
                            .eps = args.eps,
                            .out = args.out});
}

void HostCommunicator::AllGather(TensorView in, TensorView out) {
  DS_CHECK(in.dtype() == out.dtype() && out.numel() == in.numel() * size_)
      << in.ToString() << " of " << size_ << " ranks into " << out.ToString();
  if (in.numel() == 0) return;
  if (size_ == 1) {
    if (in.data() != out.data()) device_.Copy(out, in);
    return;
  }
  const Counted counted(*this, in.bytes());
  AllGatherBytes(in.data(), out.data(), in.bytes());
}

void HostCommunicator::Gather(TensorView in, TensorView out, int root) {
  DS_CHECK(root >= 0 && root < size_) << "root " << root << " of " << size_;
  DS_CHECK(rank_ != root || (in.dtype() == out.dtype() && out.numel() == in.numel() * size_))
      << in.ToString() << " of " << size_ << " ranks into " << out.ToString();
  if (in.numel() == 0) return;
  if (size_ == 1) {
    if (in.data() != out.data()) device_.Copy(out, in);
    return;
  }
  const Counted counted(*this, in.bytes());
  GatherBytes(in.data(), rank_ == root ? out.data() : nullptr, in.bytes(), root);
}

void HostCommunicator::Broadcast(TensorView inout, int root) {
  DS_CHECK(root >= 0 && root < size_) << "root " << root << " of " << size_;
  if (inout.numel() == 0 || size_ == 1) return;
  const Counted counted(*this, inout.bytes());
  BroadcastBytes(inout.data(), inout.bytes(), root);
}

CommunicatorStats HostCommunicator::Stats() const {
  return {.calls = calls_.load(std::memory_order_relaxed),
          .bytes = bytes_.load(std::memory_order_relaxed),
          .time = absl::Nanoseconds(nanoseconds_.load(std::memory_order_relaxed))};
}

absl::Status CheckHostReach(const std::string& communicator, const Device& device, int size) {
  if (size == 1) return absl::OkStatus();
  const auto refuse = [&](const std::string& does, const std::string& keep) {
    return absl::FailedPreconditionError(
        absl::StrCat("communicator ", communicator, " ", does, ", and ", size, " ranks keep ", keep,
                     " on ", device.Name(), ": use the communicator nccl, or the device cpu"));
  };
  if (!device.HostAddressable()) return refuse("reaches host memory only", "theirs");
  const DType reduction = device.numerics().reduction;
  if (reduction != DType::kF32) {
    return refuse("adds F32 only", absl::StrCat("parts of sums in ", DTypeName(reduction)));
  }
  return absl::OkStatus();
}

void AddInRankOrder(const float* parts, size_t stride, int num_parts, size_t count, float* sum) {
  // Blocks of constant length, which the compiler turns into vector adds; an element's order of
  // additions is the same in a whole block and in the rest.
  constexpr size_t kBlock = 64;
  const auto ranks = static_cast<size_t>(num_parts);
  size_t i = 0;
  for (; i + kBlock <= count; i += kBlock) {
    float block[kBlock];
    std::memcpy(block, parts + i, sizeof(block));
    for (size_t rank = 1; rank < ranks; ++rank) {
      const float* part = parts + rank * stride + i;
      for (size_t j = 0; j < kBlock; ++j) block[j] += part[j];
    }
    std::memcpy(sum + i, block, sizeof(block));
  }
  for (; i < count; ++i) {
    float total = parts[i];
    for (size_t rank = 1; rank < ranks; ++rank) total += parts[rank * stride + i];
    sum[i] = total;
  }
}

}  // namespace deltaserve
