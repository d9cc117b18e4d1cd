#pragma once

// Device: where memory and work live. One Device is one CPU process or one GPU, with one in-order
// queue.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/numerics.h"
#include "kernels/tensor/tensor_view.h"

namespace deltaserve {

class Ops;

enum class MemoryKind {
  kDevice,  // where ops work
  kHost,    // addressable by the host, fast to copy from (pinned, where that means something)
};

// One engine thread calls everything. Copies, zeroing and ops are enqueued and run in order; host
// memory given to them must stay until Synchronize(). Failures after enqueueing surface in
// Synchronize().
class Device {
 public:
  virtual ~Device() = default;

  // "cpu" or "cuda:0 (NVIDIA H100)".
  virtual std::string Name() const = 0;

  // True where the host may dereference kDevice memory.
  virtual bool HostAddressable() const = 0;

  // The dtypes that its ops take and give, by role. Always the same.
  virtual const Numerics& numerics() const = 0;

  // Bytes of device memory that nothing holds yet, where the device has memory of its own and says.
  virtual std::optional<int64_t> FreeMemory() const { return std::nullopt; }

  // Not initialised. RESOURCE_EXHAUSTED names the bytes asked for.
  virtual absl::StatusOr<Buffer> Allocate(size_t bytes, MemoryKind kind) = 0;

  // dst, src: equal bytes(); ToDevice and ToHost have one side in host memory.
  virtual void CopyToDevice(TensorView dst, const void* src) = 0;
  virtual void CopyToHost(void* dst, TensorView src) = 0;
  virtual void Copy(TensorView dst, TensorView src) = 0;
  virtual void Zero(TensorView dst) = 0;

  // Waits until all that was enqueued is done; the first error since the last call.
  virtual absl::Status Synchronize() = 0;

  // A point in the queue. Await(point) waits until all that was enqueued before it is done, and as
  // little else as the device can; errors as Synchronize(). Of the last two points only.
  virtual uint64_t Mark() { return 0; }
  virtual absl::Status Await(uint64_t /*point*/) { return Synchronize(); }

  virtual Ops& ops() = 0;
};

}  // namespace deltaserve
