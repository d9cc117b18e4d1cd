#include "kernels/cpu/cpu_device.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/thread_pool.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/isa.h"

namespace deltaserve::cpu {
namespace {

class CpuDevice final : public Device {
 public:
  CpuDevice(const CpuOptions& options, CpuIsa isa)
      : isa_(isa),
        pool_(options.num_threads, options.cores),
        ops_(CreateCpuOps(isa, options.quantization, pool_)) {}

  std::string Name() const override { return absl::StrCat("cpu (", CpuIsaName(isa_), ")"); }
  bool HostAddressable() const override { return true; }
  const Numerics& numerics() const override { return kF32Numerics; }

  absl::StatusOr<Buffer> Allocate(size_t bytes, MemoryKind /*kind*/) override {
    constexpr size_t kLine = 64;
    constexpr size_t kHugePage = size_t{2} << 20;
    if (bytes == 0) return Buffer();
    const size_t alignment = bytes >= kHugePage ? kHugePage : kLine;
    const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    const bool possible = rounded >= bytes && rounded <= size_t{PTRDIFF_MAX};
    void* data = possible ? std::aligned_alloc(alignment, rounded) : nullptr;
    if (data == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat("cpu: no memory for ", bytes,
                       " bytes; lower --kv-memory or --slots, or run ", "on more ranks"));
    }
    if (alignment == kHugePage) madvise(data, rounded, MADV_HUGEPAGE);
    return Buffer(data, bytes, [](void* p) { std::free(p); });
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
    if (dst.bytes() > 0) std::memset(dst.data(), 0, dst.bytes());
  }
  absl::Status Synchronize() override { return absl::OkStatus(); }
  Ops& ops() override { return *ops_; }

 private:
  static void Move(void* dst, const void* src, size_t bytes) {
    if (bytes > 0) std::memmove(dst, src, bytes);
  }

  const CpuIsa isa_;
  ThreadPool pool_;
  std::unique_ptr<Ops> ops_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> CreateCpuDevice(const CpuOptions& options) {
  if (options.num_threads < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("threads is ", options.num_threads, ": use 1 or more"));
  }
  const auto isa = ChooseIsa(options.isa, DetectCpuFeatures());
  if (!isa.ok()) return isa.status();
  std::unique_ptr<Device> device = std::make_unique<CpuDevice>(options, *isa);
  return device;
}

}  // namespace deltaserve::cpu
