#include "kernels/cuda/gpu_limits.h"

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <functional>
#include <random>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/base/status_macros.h"
#include "kernels/cuda/queue_cuda.h"
#include "kernels/tensor/dtype.h"

namespace deltaserve::cuda {
namespace {

constexpr size_t kCopyBytes = size_t{1} << 30;
constexpr int64_t kSize = 8192;  // rows and columns of each matrix
constexpr size_t kMatrixBytes = kSize * kSize * sizeof(BFloat16);
constexpr size_t kWorkspaceBytes = size_t{32} << 20;
constexpr int kCopies = 4, kProducts = 8;  // timed together

absl::Status Check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("cuBLASLt: ", what, ": ", cublasLtGetStatusName(status)));
}

// Every handle that a meter holds, freed with it.
struct Handles {
  cudaStream_t stream = nullptr;
  cudaEvent_t begin = nullptr, end = nullptr;
  cublasLtHandle_t blas = nullptr;
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatrixLayout_t matrix = nullptr;
  uint8_t* memory = nullptr;

  Handles() = default;
  Handles(const Handles&) = delete;
  Handles& operator=(const Handles&) = delete;
  ~Handles() {
    cudaFree(memory);
    if (matrix != nullptr) cublasLtMatrixLayoutDestroy(matrix);
    if (product != nullptr) cublasLtMatmulDescDestroy(product);
    if (blas != nullptr) cublasLtDestroy(blas);
    if (end != nullptr) cudaEventDestroy(end);
    if (begin != nullptr) cudaEventDestroy(begin);
    if (stream != nullptr) cudaStreamDestroy(stream);
  }
};

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
  absl::Status Open(int ordinal);
  std::string Description() const override { return description_; }
  absl::StatusOr<GpuLimits> Measure() override;

 private:
  absl::Status OpenProduct();
  absl::Status Multiply();
  // Seconds of `count` calls of `enqueue`, by events.
  absl::StatusOr<double> Seconds(int count, const std::function<absl::Status()>& enqueue);

  int ordinal_ = 0;
  std::string description_;
  Handles handles_;
  cublasLtMatmulHeuristicResult_t chosen_ = {};
};

absl::Status Meter::Open(int ordinal) {
  ordinal_ = ordinal;
  cudaDeviceProp properties;
  int driver = 0, runtime = 0;
  DS_RETURN_IF_ERROR(ToStatus(cudaSetDevice(ordinal), "cudaSetDevice"));
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
  DS_RETURN_IF_ERROR(ToStatus(cudaStreamCreateWithFlags(&handles_.stream, cudaStreamNonBlocking),
                              "cudaStreamCreateWithFlags"));
  DS_RETURN_IF_ERROR(ToStatus(cudaEventCreate(&handles_.begin), "cudaEventCreate"));
  DS_RETURN_IF_ERROR(ToStatus(cudaEventCreate(&handles_.end), "cudaEventCreate"));
  DS_RETURN_IF_ERROR(
      ToStatus(cudaMalloc(&handles_.memory, 2 * kCopyBytes + 3 * kMatrixBytes + kWorkspaceBytes),
               "cudaMalloc of the meter of limits"));
  DS_RETURN_IF_ERROR(ToStatus(cudaMemset(handles_.memory, 1, 2 * kCopyBytes), "cudaMemset"));
  const std::vector<BFloat16> values = RandomMatrix();
  for (const size_t i : {0, 1}) {
    DS_RETURN_IF_ERROR(ToStatus(cudaMemcpy(handles_.memory + 2 * kCopyBytes + i * kMatrixBytes,
                                           values.data(), kMatrixBytes, cudaMemcpyHostToDevice),
                                "cudaMemcpy"));
  }
  DS_RETURN_IF_ERROR(OpenProduct());
  return Measure().status();  // once for what happens at the first time only
}

absl::Status Meter::OpenProduct() {
  DS_RETURN_IF_ERROR(Check(cublasLtCreate(&handles_.blas), "cublasLtCreate"));
  DS_RETURN_IF_ERROR(
      Check(cublasLtMatmulDescCreate(&handles_.product, CUBLAS_COMPUTE_32F, CUDA_R_32F),
            "cublasLtMatmulDescCreate"));
  const cublasOperation_t transposed = CUBLAS_OP_T;  // as weights are
  DS_RETURN_IF_ERROR(
      Check(cublasLtMatmulDescSetAttribute(handles_.product, CUBLASLT_MATMUL_DESC_TRANSA,
                                           &transposed, sizeof(transposed)),
            "cublasLtMatmulDescSetAttribute"));
  DS_RETURN_IF_ERROR(
      Check(cublasLtMatrixLayoutCreate(&handles_.matrix, CUDA_R_16BF, kSize, kSize, kSize),
            "cublasLtMatrixLayoutCreate"));
  cublasLtMatmulPreference_t preference = nullptr;
  DS_RETURN_IF_ERROR(
      Check(cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate"));
  size_t workspace = kWorkspaceBytes;
  int found = 0;
  absl::Status status = Check(
      cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                           &workspace, sizeof(workspace)),
      "cublasLtMatmulPreferenceSetAttribute");
  if (status.ok()) {
    status = Check(cublasLtMatmulAlgoGetHeuristic(handles_.blas, handles_.product, handles_.matrix,
                                                  handles_.matrix, handles_.matrix, handles_.matrix,
                                                  preference, 1, &chosen_, &found),
                   "cublasLtMatmulAlgoGetHeuristic");
  }
  cublasLtMatmulPreferenceDestroy(preference);
  if (status.ok() && found == 0) {
    return absl::InternalError("cuBLASLt: it has no product of 8192 x 8192 matrices of bf16");
  }
  return status;
}

absl::Status Meter::Multiply() {
  const float one = 1, zero = 0;
  uint8_t* const a = handles_.memory + 2 * kCopyBytes;
  uint8_t* const out = a + 2 * kMatrixBytes;
  return Check(
      cublasLtMatmul(handles_.blas, handles_.product, &one, a, handles_.matrix, a + kMatrixBytes,
                     handles_.matrix, &zero, out, handles_.matrix, out, handles_.matrix,
                     &chosen_.algo, out + kMatrixBytes, kWorkspaceBytes, handles_.stream),
      "cublasLtMatmul");
}

absl::StatusOr<double> Meter::Seconds(int count, const std::function<absl::Status()>& enqueue) {
  DS_RETURN_IF_ERROR(ToStatus(cudaEventRecord(handles_.begin, handles_.stream), "cudaEventRecord"));
  for (int i = 0; i < count; ++i) DS_RETURN_IF_ERROR(enqueue());
  DS_RETURN_IF_ERROR(ToStatus(cudaEventRecord(handles_.end, handles_.stream), "cudaEventRecord"));
  DS_RETURN_IF_ERROR(ToStatus(cudaEventSynchronize(handles_.end), "cudaEventSynchronize"));
  float milliseconds = 0;
  DS_RETURN_IF_ERROR(ToStatus(cudaEventElapsedTime(&milliseconds, handles_.begin, handles_.end),
                              "cudaEventElapsedTime"));
  return static_cast<double>(milliseconds) / 1e3;
}

absl::StatusOr<GpuLimits> Meter::Measure() {
  DS_RETURN_IF_ERROR(ToStatus(cudaSetDevice(ordinal_), "cudaSetDevice"));
  DS_ASSIGN_OR_RETURN(const double copies, Seconds(kCopies, [this] {
                        return ToStatus(
                            cudaMemcpyAsync(handles_.memory + kCopyBytes, handles_.memory,
                                            kCopyBytes, cudaMemcpyDeviceToDevice, handles_.stream),
                            "cudaMemcpyAsync");
                      }));
  DS_ASSIGN_OR_RETURN(const double products, Seconds(kProducts, [this] { return Multiply(); }));
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
