#include "worker/comm/host_communicator.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <utility>

#include "absl/base/thread_annotations.h"
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
}

absl::StatusOr<Buffer> HostCommunicator::AllocateExchange(size_t bytes) {
  DS_ASSIGN_OR_RETURN(Buffer memory, device_.Allocate(bytes, MemoryKind::kDevice));
  if (size_ > 1) {
    ExchangeGrewTo(bytes);
    DS_RETURN_IF_ERROR(GrowStaging(bytes));
    if (device_.numerics().reduction == DType::kBF16) GrowWide(bytes / sizeof(BFloat16));
  }
  void* const data = memory.data();
  regions_->Add(data, bytes);
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
  if (SumsInPlace(inout)) {
    SumInRankOrder(inout.as<float>(), static_cast<size_t>(inout.numel()));
  } else {
    SumStaged(inout);
  }
}

void HostCommunicator::CheckExchange(TensorView tensor) const {
  DS_CHECK(tensor.dtype() == device_.numerics().reduction) << tensor.ToString();
  DS_CHECK(tensor.numel() == 0 || regions_->Contains(tensor.data(), tensor.bytes()))
      << tensor.ToString() << " lies in no buffer of AllocateExchange";
}

bool HostCommunicator::SumsInPlace(TensorView tensor) const {
  return device_.HostAddressable() && tensor.dtype() == DType::kF32;
}

void HostCommunicator::SumStaged(TensorView inout) {
  const auto count = static_cast<size_t>(inout.numel());
  void* const placed = Fetch(inout);
  if (inout.dtype() == DType::kF32) {
    SumInRankOrder(static_cast<float*>(placed), count);
  } else {
    GrowWide(count);
    auto* const wide = static_cast<float*>(wide_.data());
    auto* const narrow = static_cast<BFloat16*>(placed);
    for (size_t i = 0; i < count; ++i) wide[i] = ToFloat(narrow[i]);
    SumInRankOrder(wide, count);
    for (size_t i = 0; i < count; ++i) narrow[i] = ToBFloat16(wide[i]);
  }
  Store(inout, placed);
}

void HostCommunicator::GrowWide(size_t count) {
  if (wide_.bytes() >= count * sizeof(float)) return;
  wide_ = Buffer::AllocateHost(count * sizeof(float));
  ExchangeGrewTo(wide_.bytes());
}

absl::Status HostCommunicator::GrowStaging(size_t bytes) {
  if (device_.HostAddressable() || staging_.bytes() >= bytes) return absl::OkStatus();
  DS_RETURN_IF_ERROR(device_.Synchronize());  // copies out of the old one
  DS_ASSIGN_OR_RETURN(staging_,
                      device_.Allocate(std::max(bytes, 2 * staging_.bytes()), MemoryKind::kHost));
  return absl::OkStatus();
}

void* HostCommunicator::Fetch(TensorView tensor) {
  if (device_.HostAddressable()) return tensor.data();
  DS_CHECK_OK(GrowStaging(tensor.bytes()));
  device_.CopyToHost(staging_.data(), tensor);
  DS_CHECK_OK(device_.Synchronize());
  return staging_.data();
}

void* HostCommunicator::Place(TensorView out, size_t offset) {
  if (device_.HostAddressable()) return out.data();
  return static_cast<std::byte*>(staging_.data()) + offset;
}

void HostCommunicator::Store(TensorView out, const void* placed) {
  if (!device_.HostAddressable()) device_.CopyToDevice(out, placed);
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
    if (SumsInPlace(delta)) {
      delta = SumOrParts(args.partial);
    } else {
      SumStaged(args.partial);
    }
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
  DS_CHECK_OK(GrowStaging(in.bytes() + out.bytes()));
  const void* const mine = Fetch(in);
  void* const all = Place(out, in.bytes());
  AllGatherBytes(mine, all, in.bytes());
  Store(out, all);
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
  const bool mine = rank_ == root;
  DS_CHECK_OK(GrowStaging(in.bytes() + (mine ? out.bytes() : 0)));
  const void* const part = Fetch(in);
  void* const all = mine ? Place(out, in.bytes()) : nullptr;
  GatherBytes(part, all, in.bytes(), root);
  if (mine) Store(out, all);
}

void HostCommunicator::Broadcast(TensorView inout, int root) {
  DS_CHECK(root >= 0 && root < size_) << "root " << root << " of " << size_;
  if (inout.numel() == 0 || size_ == 1) return;
  const Counted counted(*this, inout.bytes());
  void* const placed = Fetch(inout);
  BroadcastBytes(placed, inout.bytes(), root);
  if (rank_ != root) Store(inout, placed);
}

CommunicatorStats HostCommunicator::Stats() const {
  return {.calls = calls_.load(std::memory_order_relaxed),
          .bytes = bytes_.load(std::memory_order_relaxed),
          .time = absl::Nanoseconds(nanoseconds_.load(std::memory_order_relaxed))};
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
