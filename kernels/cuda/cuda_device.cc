#include "kernels/cuda/cuda_device.h"

#include <cuda_runtime.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "kernels/cuda/backends.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/host_requirements.h"
#include "kernels/cuda/matrix_products.h"
#include "kernels/cuda/queue_cuda.h"

namespace deltaserve::cuda {
namespace {

class CudaDevice final : public Device {
 public:
  CudaDevice(int ordinal, std::string name, cudaStream_t stream, int num_multiprocessors)
      : ordinal_(ordinal), name_(std::move(name)), queue_(stream, num_multiprocessors) {}
  ~CudaDevice() override {
    ops_.reset();
    for (const cudaEvent_t event : points_) {
      if (event != nullptr) cudaEventDestroy(event);
    }
    cudaStreamDestroy(queue_.stream());
  }
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  absl::Status MakeOps(const Backends& backends) {
    for (cudaEvent_t& event : points_) {
      DS_RETURN_IF_ERROR(ToStatus(cudaEventCreateWithFlags(&event, cudaEventDisableTiming),
                                  "cudaEventCreateWithFlags"));
    }
    DS_ASSIGN_OR_RETURN(auto products, CreateMatrixProducts(*this, queue_));
    ops_ = CreateCudaOps(*this, queue_, std::move(products), backends);
    return absl::OkStatus();
  }

  std::string Name() const override { return name_; }
  bool HostAddressable() const override { return false; }
  const Numerics& numerics() const override { return kBF16Numerics; }

  std::optional<int64_t> FreeMemory() const override {
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    CheckThread();
    if (cudaMemGetInfo(&free_bytes, &total_bytes) != cudaSuccess) {
      cudaGetLastError();  // the next launch would take it for its own
      return std::nullopt;
    }
    return static_cast<int64_t>(free_bytes);
  }

  absl::StatusOr<Buffer> Allocate(size_t bytes, MemoryKind kind) override {
    CheckThread();
    if (bytes == 0) return Buffer();
    void* data = nullptr;
    const bool host = kind == MemoryKind::kHost;
    const cudaError_t error = host ? cudaMallocHost(&data, bytes) : cudaMalloc(&data, bytes);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // the next call would give it again
      if (host) {
        return absl::ResourceExhaustedError(absl::StrCat(
            name_, ": no memory of the host to pin for ", bytes, " bytes: raise its limit"));
      }
      size_t free_bytes = 0;
      size_t total_bytes = 0;
      DS_RETURN_IF_ERROR(ToStatus(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo"));
      return NoMemory(ordinal_, bytes, free_bytes, total_bytes);
    }
    DS_RETURN_IF_ERROR(ToStatus(error, host ? "cudaMallocHost" : "cudaMalloc"));
    return Buffer(
        data, bytes, [host](void* p) { host ? cudaFreeHost(p) : cudaFree(p); }, host);
  }

  void CopyToDevice(TensorView dst, const void* src) override {
    Move(dst.data(), src, dst.bytes(), cudaMemcpyHostToDevice);
  }
  void CopyToHost(void* dst, TensorView src) override {
    Move(dst, src.data(), src.bytes(), cudaMemcpyDeviceToHost);
  }
  void Copy(TensorView dst, TensorView src) override {
    DS_CHECK_EQ(dst.bytes(), src.bytes());
    Move(dst.data(), src.data(), dst.bytes(), cudaMemcpyDeviceToDevice);
  }
  void Zero(TensorView dst) override {
    CheckThread();
    if (dst.bytes() == 0) return;
    queue_.Note(cudaMemsetAsync(dst.data(), 0, dst.bytes(), queue_.stream()), "cudaMemsetAsync");
  }
  absl::Status Synchronize() override {
    CheckThread();
    queue_.Note(cudaStreamSynchronize(queue_.stream()), "cudaStreamSynchronize");
    return queue_.TakeStatus();
  }
  uint64_t Mark() override {
    CheckThread();
    queue_.Note(cudaEventRecord(points_[++last_point_ % points_.size()], queue_.stream()),
                "cudaEventRecord");
    return last_point_;
  }
  absl::Status Await(uint64_t point) override {
    CheckThread();
    DS_CHECK(point <= last_point_ && last_point_ - point < points_.size()) << point;
    queue_.Note(cudaEventSynchronize(points_[point % points_.size()]), "cudaEventSynchronize");
    return queue_.TakeStatus();
  }
  Ops& ops() override {
    CheckThread();
    return *ops_;
  }

  cudaStream_t stream() const { return queue_.stream(); }

 private:
  void CheckThread() const {
    DS_CHECK(std::this_thread::get_id() == thread_)
        << name_ << " is used by another thread than the one that made it";
  }

  void Move(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind) {
    CheckThread();
    if (bytes == 0) return;
    queue_.Note(cudaMemcpyAsync(dst, src, bytes, kind, queue_.stream()), "cudaMemcpyAsync");
  }

  const int ordinal_;
  const std::string name_;
  const std::thread::id thread_ = std::this_thread::get_id();
  Queue queue_;
  std::array<cudaEvent_t, 2> points_ = {};
  uint64_t last_point_ = 0;
  std::unique_ptr<Ops> ops_;
};

absl::StatusOr<HostFacts> Host() {
  HostFacts host;
  DS_RETURN_IF_ERROR(ToStatus(cudaRuntimeGetVersion(&host.runtime_version), "its version"));
  DS_RETURN_IF_ERROR(ToStatus(cudaDriverGetVersion(&host.driver_version), "the driver's version"));
  const cudaError_t error = cudaGetDeviceCount(&host.num_gpus);
  if (error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver) {
    cudaGetLastError();
    host.num_gpus = 0;
  } else {
    DS_RETURN_IF_ERROR(ToStatus(error, "cudaGetDeviceCount"));
  }
  return host;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> CreateCudaDevice(int ordinal, const CudaOptions& options) {
  DS_ASSIGN_OR_RETURN(const Backends backends, ChooseBackends(options));
  DS_ASSIGN_OR_RETURN(const HostFacts host, Host());
  DS_RETURN_IF_ERROR(CheckHost(host, ordinal));
  cudaDeviceProp properties;
  DS_RETURN_IF_ERROR(
      ToStatus(cudaGetDeviceProperties(&properties, ordinal), "cudaGetDeviceProperties"));
  const std::string gpu = static_cast<const char*>(properties.name);
  DS_RETURN_IF_ERROR(CheckGpu({gpu, properties.major, properties.minor}, ordinal));
  DS_RETURN_IF_ERROR(ToStatus(cudaSetDevice(ordinal), "cudaSetDevice"));
  cudaStream_t stream = nullptr;
  DS_RETURN_IF_ERROR(ToStatus(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
                              "cudaStreamCreateWithFlags"));
  auto device = std::make_unique<CudaDevice>(
      ordinal, absl::StrCat("cuda:", ordinal, " (", gpu, BackendsText(options), ")"), stream,
      properties.multiProcessorCount);
  DS_RETURN_IF_ERROR(device->MakeOps(backends));
  return device;
}

void* StreamOf(Device& device) { return static_cast<CudaDevice&>(device).stream(); }

}  // namespace deltaserve::cuda
