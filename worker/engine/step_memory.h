#pragma once

// StepMemory: pinned memory of the host through which a step's rules, scores and ids travel, so
// that launching it waits for no device.

#include <array>
#include <cstddef>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/device.h"

namespace deltaserve {

// Engine thread. Owner: Sampler. Has room for two steps that the device is not done with.
class StepMemory {
 public:
  // Bytes of one step.
  struct Sizes {
    size_t uploads = 0;
    size_t results = 0;
  };

  // RESOURCE_EXHAUSTED as of Device::Allocate().
  static absl::StatusOr<std::unique_ptr<StepMemory>> Create(Device& device, const Sizes& sizes);

  // What `count` copies of `bytes` in all take of it at most.
  static size_t Room(size_t bytes, size_t count) { return bytes + count * kAlignment; }

  // Begins a step. What the one two before it copied is no more.
  void NextStep();

  // Enqueues a copy of dst.bytes() at `src`, which may go at once. Waits for the device where the
  // step has copied more than its uploads hold; errors as of Device::Synchronize().
  absl::Status ToDevice(TensorView dst, const void* src);

  // Enqueues a copy: the values are there once the device has done the step. A failed check where
  // the step has no room.
  template <typename T>
  std::span<const T> ToHost(TensorView src) {
    return {static_cast<const T*>(CopyToHost(src)), static_cast<size_t>(src.numel())};
  }

 private:
  static constexpr size_t kAlignment = 64;
  struct Step {
    Buffer uploads, results;
    size_t uploaded = 0;  // bytes
    size_t fetched = 0;
  };

  explicit StepMemory(Device& device) : device_(device) {}
  const void* CopyToHost(TensorView src);

  Device& device_;
  std::array<Step, 2> steps_;
  size_t current_ = 0;
};

}  // namespace deltaserve
