#include "kernels/reference/reference_device.h"

#include <cstring>

#include "kernels/reference/reference_ops.h"

namespace deltaserve::reference {
namespace {

class ReferenceDevice final : public Device {
 public:
  std::string Name() const override { return "reference"; }
  bool HostAddressable() const override { return true; }
  const Numerics& numerics() const override { return kF32Numerics; }
  absl::StatusOr<Buffer> Allocate(size_t bytes, MemoryKind /*kind*/) override {
    return Buffer::AllocateHost(bytes);
  }
  void CopyToDevice(TensorView dst, const void* src) override {
    if (dst.bytes() > 0) std::memcpy(dst.data(), src, dst.bytes());
  }
  void CopyToHost(void* dst, TensorView src) override {
    if (src.bytes() > 0) std::memcpy(dst, src.data(), src.bytes());
  }
  void Copy(TensorView dst, TensorView src) override {
    DS_CHECK_EQ(dst.bytes(), src.bytes());
    if (dst.bytes() > 0) std::memmove(dst.data(), src.data(), dst.bytes());
  }
  void Zero(TensorView dst) override {
    if (dst.bytes() > 0) std::memset(dst.data(), 0, dst.bytes());
  }
  absl::Status Synchronize() override { return absl::OkStatus(); }
  Ops& ops() override { return ops_; }

 private:
  ReferenceOps ops_;
};

}  // namespace

std::unique_ptr<Device> CreateReferenceDevice() { return std::make_unique<ReferenceDevice>(); }

}  // namespace deltaserve::reference
