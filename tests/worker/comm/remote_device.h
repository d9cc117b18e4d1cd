#pragma once

// A device whose memory the host must not touch, as a GPU's. It has no arithmetic.

#include <cstdlib>
#include <cstring>
#include <string>

#include "kernels/base/check.h"
#include "kernels/device.h"

namespace deltaserve {

class RemoteDevice final : public Device {
 public:
  int num_copies = 0;
  bool host_addressable = false;
  Numerics of_ops = kF32Numerics;

  std::string Name() const override { return "remote:0"; }
  bool HostAddressable() const override { return host_addressable; }
  const Numerics& numerics() const override { return of_ops; }
  absl::StatusOr<Buffer> Allocate(size_t bytes, MemoryKind /*kind*/) override {
    return Buffer::AllocateHost(bytes);
  }
  void CopyToDevice(TensorView dst, const void* src) override {
    std::memcpy(dst.data(), src, dst.bytes());
  }
  void CopyToHost(void* dst, TensorView src) override { std::memcpy(dst, src.data(), src.bytes()); }
  void Copy(TensorView dst, TensorView src) override {
    ++num_copies;
    std::memcpy(dst.data(), src.data(), src.bytes());
  }
  void Zero(TensorView dst) override { std::memset(dst.data(), 0, dst.bytes()); }
  absl::Status Synchronize() override { return absl::OkStatus(); }
  Ops& ops() override {
    DS_CHECK(false) << "no arithmetic here";
    std::abort();
  }
};

}  // namespace deltaserve
