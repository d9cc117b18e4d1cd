#include "kernels/reference/reference_device.h"

#include <cstring>

#include "kernels/reference/narrow_ops.h"
#include "kernels/reference/reference_ops.h"

namespace deltaserve::reference {
namespace {

class ReferenceDevice final : public Device {
 public:
  explicit ReferenceDevice(const Numerics& numerics) : numerics_(numerics) {
    if (numerics_ != kF32Numerics) narrow_ = CreateNarrowOps(ops_);
  }

  std::string Name() const override { return "reference"; }
  bool HostAddressable() const override { return true; }
  const Numerics& numerics() const override { return numerics_; }
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
  Ops& ops() override { return narrow_ == nullptr ? ops_ : *narrow_; }

 private:
  const Numerics numerics_;
  ReferenceOps ops_;
  std::unique_ptr<Ops> narrow_;
};

}  // namespace

std::unique_ptr<Device> CreateReferenceDevice(const Numerics& numerics) {
  return std::make_unique<ReferenceDevice>(numerics);
}

}  // namespace deltaserve::reference
