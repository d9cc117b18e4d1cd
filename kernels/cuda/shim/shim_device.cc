#include "kernels/cuda/shim/shim_device.h"

#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/cuda/backends.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/gathered_experts.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/matrix_products.h"
#include "kernels/cuda/shim/shim_memory.h"

namespace deltaserve::cuda {
namespace {

// What is left of the device for buffers that outlive it: they have to be freed all the same.
struct Core {
  explicit Core(uint64_t seed) : queue(seed) {}

  void Run() { Run(queue.Enqueued()); }
  void Run(uint64_t enqueued) {
    memory.Open();
    queue.Run(enqueued);
    memory.Close();
  }

  shim::ShimMemory memory;
  Queue queue;
};

class ShimDevice final : public Device {
 public:
  ShimDevice(uint64_t seed, const Backends& backends) : core_(std::make_shared<Core>(seed)) {
    auto products = CreateMatrixProducts(*this, core_->queue);
    DS_CHECK_OK(products.status());
    ops_ = CreateCudaOps(*this, core_->queue, std::move(*products), backends);
  }

  std::string Name() const override { return "cuda_shim"; }
  bool HostAddressable() const override { return false; }
  const Numerics& numerics() const override { return kBF16Numerics; }

  absl::StatusOr<Buffer> Allocate(size_t bytes, MemoryKind kind) override {
    if (kind == MemoryKind::kHost) return Buffer::AllocateHost(bytes);
    if (bytes == 0) return Buffer();
    void* data = core_->memory.Allocate(bytes);
    if (data == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat("cuda_shim: no memory for ", bytes, " bytes; ask for less"));
    }
    const auto free = [core = core_](void* p) {
      core->Run();  // as cudaFree does
      core->memory.Free(p);
    };
    return Buffer(data, bytes, free, false);
  }

  void CopyToDevice(TensorView dst, const void* src) override {
    Move(dst.data(), src, dst.bytes());
  }
  void CopyToHost(void* dst, TensorView src) override { Move(dst, src.data(), src.bytes()); }
  void Copy(TensorView dst, TensorView src) override {
    DS_CHECK_EQ(dst.bytes(), src.bytes());
    Move(dst.data(), src.data(), dst.bytes());
  }
  void Zero(TensorView dst) override {
    if (dst.bytes() == 0) return;
    core_->queue.Enqueue([dst] { std::memset(dst.data(), 0, dst.bytes()); });
  }
  absl::Status Synchronize() override {
    core_->Run();
    return absl::OkStatus();
  }
  uint64_t Mark() override { return core_->queue.Enqueued(); }
  absl::Status Await(uint64_t point) override {
    core_->Run(point);
    return absl::OkStatus();
  }
  Ops& ops() override { return *ops_; }

 private:
  void Move(void* dst, const void* src, size_t bytes) {
    if (bytes == 0) return;
    core_->queue.Enqueue([dst, src, bytes] { std::memmove(dst, src, bytes); });
  }

  std::shared_ptr<Core> core_;
  std::unique_ptr<Ops> ops_;
};

}  // namespace

std::unique_ptr<Device> CreateShimDevice(uint64_t seed, const CudaOptions& options) {
  auto backends = ChooseBackends({.attention = options.attention});
  if (!backends.ok()) return nullptr;
  if (options.moe == MoeBackend::kCutlass) {
    backends->experts = &GatheredExperts;
    backends->experts_scratch = &GatheredExpertsScratch;
  }
  return std::make_unique<ShimDevice>(seed, *backends);
}

}  // namespace deltaserve::cuda
