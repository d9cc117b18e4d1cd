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

namespace deltaserve::cpu {
namespace {

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(int num_threads) : pool_(num_threads), ops_(CreateCpuOps(pool_)) {}

  std::string Name() const override { return "cpu"; }
  bool HostAddressable() const override { return true; }

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

  ThreadPool pool_;
  std::unique_ptr<Ops> ops_;
};

}  // namespace

CpuFeatures DetectCpuFeatures() {
  CpuFeatures features;
#if defined(__x86_64__)
  __builtin_cpu_init();
  features.avx2 = __builtin_cpu_supports("avx2") != 0;
  features.fma = __builtin_cpu_supports("fma") != 0;
  features.bmi2 = __builtin_cpu_supports("bmi2") != 0;
#endif
  return features;
}

absl::Status CheckCpuFeatures(const CpuFeatures& features) {
  std::string missing;
  if (!features.avx2) absl::StrAppend(&missing, " AVX2");
  if (!features.fma) absl::StrAppend(&missing, " FMA");
  if (!features.bmi2) absl::StrAppend(&missing, " BMI2");
  if (missing.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("cpu: this processor lacks", missing,
                   "; the kernels need x86-64-v3 (Haswell or Zen and later)"));
}

absl::StatusOr<std::unique_ptr<Device>> CreateCpuDevice(const CpuOptions& options) {
  if (options.num_threads < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("threads is ", options.num_threads, ": use 1 or more"));
  }
  if (absl::Status status = CheckCpuFeatures(DetectCpuFeatures()); !status.ok()) return status;
  std::unique_ptr<Device> device = std::make_unique<CpuDevice>(options.num_threads);
  return device;
}

}  // namespace deltaserve::cpu
