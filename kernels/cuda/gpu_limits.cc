#include "kernels/cuda/gpu_limits.h"

#include <cuda_runtime.h>

#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "kernels/base/status_macros.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/matrix_products.h"
#include "kernels/cuda/queue_cuda.h"

namespace deltaserve::cuda {
namespace {

constexpr int64_t kCopyBytes = int64_t{1} << 30;
constexpr int64_t kSize = 8192;  // rows and columns of each matrix
constexpr size_t kMatrixBytes = kSize * kSize * sizeof(BFloat16);
constexpr int kCopies = 4, kProducts = 8;  // timed together

// A matrix of numbers that no multiplier finds easy: zeros run faster than data does.
std::vector<BFloat16> RandomMatrix() {
  std::minstd_rand random(1);
  std::uniform_real_distribution<float> even(-1, 1);
  std::vector<BFloat16> drawn(1 << 16);
  for (BFloat16& value : drawn) value = ToBFloat16(even(random));
  std::vector<BFloat16> values;
  values.reserve(kSize * kSize);
  while (values.size() < kSize * kSize) values.insert(values.end(), drawn.begin(), drawn.end());
  return values;
}

class Meter final : public GpuLimitMeter {
 public:
  ~Meter() override {
    if (end_ != nullptr) cudaEventDestroy(end_);
    if (begin_ != nullptr) cudaEventDestroy(begin_);
  }
  absl::Status Open(int ordinal);
  std::string Description() const override { return description_; }
  absl::StatusOr<GpuLimits> Measure() override;

 private:
  // Seconds of `count` calls of `enqueue`, by events.
  absl::StatusOr<double> Seconds(int count, const std::function<void()>& enqueue);

  std::string description_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Queue> queue_;  // the device's stream, with errors of its own
  std::unique_ptr<MatrixProducts> products_;
  std::vector<Buffer> memory_;
  TensorView from_, to_, x_, w_, out_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

absl::Status Meter::Open(int ordinal) {
  DS_ASSIGN_OR_RETURN(device_, CreateCudaDevice(ordinal));
  cudaDeviceProp properties;
  int driver = 0, runtime = 0;
  DS_RETURN_IF_ERROR(
      ToStatus(cudaGetDeviceProperties(&properties, ordinal), "cudaGetDeviceProperties"));
  DS_RETURN_IF_ERROR(ToStatus(cudaDriverGetVersion(&driver), "cudaDriverGetVersion"));
  DS_RETURN_IF_ERROR(ToStatus(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion"));
  description_ = absl::StrFormat(
      "%s, compute capability %d.%d, %d multiprocessors, %.1f GiB, L2 of %d MiB, driver for CUDA "
      "%d.%d, runtime %d.%d",
      properties.name, properties.major, properties.minor, properties.multiProcessorCount,
      static_cast<double>(properties.totalGlobalMem) / (1 << 30), properties.l2CacheSize >> 20,
      driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
  queue_ = std::make_unique<Queue>(static_cast<cudaStream_t>(StreamOf(*device_)),
                                   properties.multiProcessorCount);
  DS_ASSIGN_OR_RETURN(products_, CreateMatrixProducts(*device_, *queue_));
  DS_RETURN_IF_ERROR(ToStatus(cudaEventCreate(&begin_), "cudaEventCreate"));
  DS_RETURN_IF_ERROR(ToStatus(cudaEventCreate(&end_), "cudaEventCreate"));
  for (TensorView* view : {&from_, &to_}) {
    DS_ASSIGN_OR_RETURN(Buffer buffer, device_->Allocate(kCopyBytes, MemoryKind::kDevice));
    *view = buffer.View(DType::kU8, {kCopyBytes});
    memory_.push_back(std::move(buffer));
    device_->Zero(*view);
  }
  const std::vector<BFloat16> values = RandomMatrix();
  for (TensorView* view : {&x_, &w_, &out_}) {
    DS_ASSIGN_OR_RETURN(Buffer buffer, device_->Allocate(kMatrixBytes, MemoryKind::kDevice));
    *view = buffer.View(DType::kBF16, {kSize, kSize});
    memory_.push_back(std::move(buffer));
    device_->CopyToDevice(*view, values.data());
  }
  DS_RETURN_IF_ERROR(device_->Synchronize());
  return Measure().status();  // once for what happens at the first time only
}

absl::StatusOr<double> Meter::Seconds(int count, const std::function<void()>& enqueue) {
  DS_RETURN_IF_ERROR(ToStatus(cudaEventRecord(begin_, queue_->stream()), "cudaEventRecord"));
  for (int i = 0; i < count; ++i) enqueue();
  DS_RETURN_IF_ERROR(ToStatus(cudaEventRecord(end_, queue_->stream()), "cudaEventRecord"));
  DS_RETURN_IF_ERROR(device_->Synchronize());
  DS_RETURN_IF_ERROR(queue_->TakeStatus());
  float milliseconds = 0;
  DS_RETURN_IF_ERROR(
      ToStatus(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime"));
  return static_cast<double>(milliseconds) / 1e3;
}

absl::StatusOr<GpuLimits> Meter::Measure() {
  DS_ASSIGN_OR_RETURN(const double copies, Seconds(kCopies, [this] { device_->Copy(to_, from_); }));
  DS_ASSIGN_OR_RETURN(const double products,
                      Seconds(kProducts, [this] { products_->Multiply(x_, w_, out_); }));
  constexpr double kSide = static_cast<double>(kSize);
  return GpuLimits{.copy_bytes = 2.0 * kCopies * static_cast<double>(kCopyBytes) / copies,
                   .bf16_flops = 2.0 * kProducts * kSide * kSide * kSide / products};
}

}  // namespace

absl::StatusOr<std::unique_ptr<GpuLimitMeter>> GpuLimitMeter::Create(int ordinal) {
  auto meter = std::make_unique<Meter>();
  DS_RETURN_IF_ERROR(meter->Open(ordinal));
  return meter;
}

}  // namespace deltaserve::cuda
