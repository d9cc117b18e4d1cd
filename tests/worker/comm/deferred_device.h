#pragma once

// A device as a GPU is one to the host: its memory is out of reach, and what is enqueued happens
// when somebody waits for it. Whoever reads a copy too soon, or writes to what a copy still has to
// read, gets wrong numbers.

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/device.h"
#include "kernels/ops.h"

namespace deltaserve {

// `arithmetic`: a host-addressable device whose ops are this one's; outlives it. `numerics`: what
// this one says of itself.
class DeferredDevice final : public Device {
 public:
  explicit DeferredDevice(Device& arithmetic, const Numerics& numerics = kF32Numerics)
      : arithmetic_(arithmetic), numerics_(numerics) {}

  // Of kHost memory that lives, and the most there was at once.
  size_t host_bytes() const { return *host_bytes_; }
  size_t most_host_bytes() const { return most_host_bytes_; }

  std::string Name() const override { return "deferred:0"; }
  bool HostAddressable() const override { return false; }
  const Numerics& numerics() const override { return numerics_; }
  absl::StatusOr<Buffer> Allocate(size_t bytes, MemoryKind kind) override {
    void* const memory = std::malloc(bytes == 0 ? 1 : bytes);
    if (kind == MemoryKind::kDevice) return Buffer(memory, bytes, std::free, false);
    *host_bytes_ += bytes;
    most_host_bytes_ = std::max(most_host_bytes_, *host_bytes_);
    return Buffer(memory, bytes, [living = host_bytes_, bytes](void* address) {
      *living -= bytes;
      std::free(address);
    });
  }
  void CopyToDevice(TensorView dst, const void* src) override {
    queue_.emplace_back([=] { std::memcpy(dst.data(), src, dst.bytes()); });
  }
  void CopyToHost(void* dst, TensorView src) override {
    queue_.emplace_back([=] { std::memcpy(dst, src.data(), src.bytes()); });
  }
  void Copy(TensorView dst, TensorView src) override { CopyToDevice(dst, src.data()); }
  void Zero(TensorView dst) override {
    queue_.emplace_back([=] { std::memset(dst.data(), 0, dst.bytes()); });
  }
  absl::Status Synchronize() override {
    for (const auto& work : std::exchange(queue_, {})) work();
    return arithmetic_.Synchronize();
  }
  // In order with the copies.
  Ops& ops() override {
    for (const auto& work : std::exchange(queue_, {})) work();
    return arithmetic_.ops();
  }

 private:
  Device& arithmetic_;
  const Numerics numerics_;
  std::vector<std::function<void()>> queue_;
  std::shared_ptr<size_t> host_bytes_ = std::make_shared<size_t>(0);  // buffers may outlive this
  size_t most_host_bytes_ = 0;
};

}  // namespace deltaserve
