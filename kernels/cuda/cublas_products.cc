#include <cublasLt.h>
#include <cuda_runtime.h>

#include <array>
#include <bit>
#include <map>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "kernels/cuda/matrix_products.h"
#include "kernels/cuda/queue_cuda.h"

namespace deltaserve::cuda {
namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;  // what cuBLAS asks for on this architecture
constexpr uint32_t kMostAlignment = 256;

// The power of two that an address is a multiple of.
uint32_t Alignment(const void* data) {
  const auto address = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(data) | kMostAlignment);
  return uint32_t{1} << std::countr_zero(address);
}

// Calls of cuBLASLt fail only for what this file does wrong.
void Check(cublasStatus_t status, const char* what) {
  DS_CHECK(status == CUBLAS_STATUS_SUCCESS) << what << ": " << cublasLtGetStatusString(status);
}

template <typename T>
using Owned = std::unique_ptr<std::remove_pointer_t<T>, cublasStatus_t (*)(T)>;

// Column-major [rows, columns].
Owned<cublasLtMatrixLayout_t> Layout(cudaDataType_t type, int64_t rows, int64_t columns) {
  cublasLtMatrixLayout_t layout = nullptr;
  Check(cublasLtMatrixLayoutCreate(&layout, type, static_cast<uint64_t>(rows),
                                   static_cast<uint64_t>(columns), rows),
        "cublasLtMatrixLayoutCreate");
  return {layout, &cublasLtMatrixLayoutDestroy};
}

// One shape: how it is described to cuBLASLt and what that chose for it. A row-major matrix is its
// transpose column-major, so out^T [out, rows] = (w^T)^T . x^T.
struct Plan {
  Owned<cublasLtMatmulDesc_t> product;
  Owned<cublasLtMatrixLayout_t> w;
  Owned<cublasLtMatrixLayout_t> x;
  Owned<cublasLtMatrixLayout_t> out;
  cublasLtMatmulAlgo_t algorithm;
};

// Everything that the choice depends on: rows, in, out, bytes of an output, alignments.
using Key = std::array<int64_t, 7>;

class CublasProducts final : public MatrixProducts {
 public:
  CublasProducts(cublasLtHandle_t handle, Buffer workspace, Queue& queue)
      : handle_(handle), workspace_(std::move(workspace)), queue_(queue) {}
  ~CublasProducts() override { cublasLtDestroy(handle_); }
  CublasProducts(const CublasProducts&) = delete;
  CublasProducts& operator=(const CublasProducts&) = delete;

  void Multiply(const TensorView& x, const TensorView& w, const TensorView& out) override {
    const Plan& plan = PlanOf(x, w, out);
    const float one = 1;
    const float zero = 0;
    const cublasStatus_t status =
        cublasLtMatmul(handle_, plan.product.get(), &one, w.data(), plan.w.get(), x.data(),
                       plan.x.get(), &zero, out.data(), plan.out.get(), out.data(), plan.out.get(),
                       &plan.algorithm, workspace_.data(), workspace_.bytes(), queue_.stream());
    if (status == CUBLAS_STATUS_SUCCESS) return;
    // A kernel before this may have broken the device: then that is the error.
    const cudaError_t error = cudaStreamQuery(queue_.stream());
    if (error == cudaSuccess || error == cudaErrorNotReady) Check(status, "cublasLtMatmul");
    queue_.Note(error, "a kernel before a matrix product");
  }

 private:
  const Plan& PlanOf(const TensorView& x, const TensorView& w, const TensorView& out) {
    const Key key = {x.dim(0),
                     w.dim(0),
                     w.dim(1),
                     static_cast<int64_t>(DTypeSize(out.dtype())),
                     Alignment(x.data()),
                     Alignment(w.data()),
                     Alignment(out.data())};
    auto found = plans_.find(key);
    if (found == plans_.end()) found = plans_.emplace(key, MakePlan(x, w, out)).first;
    return found->second;
  }

  Plan MakePlan(const TensorView& x, const TensorView& w, const TensorView& out) {
    cublasLtMatmulDesc_t product = nullptr;
    Check(cublasLtMatmulDescCreate(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F),
          "cublasLtMatmulDescCreate");
    const cublasOperation_t transposed = CUBLAS_OP_T;
    Check(cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                         sizeof(transposed)),
          "cublasLtMatmulDescSetAttribute");
    const bool narrow = out.dtype() == DType::kBF16;
    DS_CHECK(narrow || out.dtype() == DType::kF32) << out.ToString();
    Plan plan = {.product = {product, &cublasLtMatmulDescDestroy},
                 .w = Layout(CUDA_R_16BF, w.dim(1), w.dim(0)),
                 .x = Layout(CUDA_R_16BF, x.dim(1), x.dim(0)),
                 .out = Layout(narrow ? CUDA_R_16BF : CUDA_R_32F, out.dim(1), out.dim(0)),
                 .algorithm = {}};
    Choose(x, w, out, plan);
    return plan;
  }

  // The first of what cuBLASLt's heuristic offers.
  void Choose(const TensorView& x, const TensorView& w, const TensorView& out, Plan& plan) {
    cublasLtMatmulPreference_t made = nullptr;
    Check(cublasLtMatmulPreferenceCreate(&made), "cublasLtMatmulPreferenceCreate");
    const Owned<cublasLtMatmulPreference_t> preference = {made, &cublasLtMatmulPreferenceDestroy};
    const auto set = [made](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      Check(cublasLtMatmulPreferenceSetAttribute(made, attribute, &value, sizeof(value)),
            "cublasLtMatmulPreferenceSetAttribute");
    };
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{workspace_.bytes()});
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, Alignment(w.data()));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, Alignment(x.data()));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, Alignment(out.data()));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, Alignment(out.data()));
    cublasLtMatmulHeuristicResult_t result;
    int num_results = 0;
    Check(cublasLtMatmulAlgoGetHeuristic(handle_, plan.product.get(), plan.w.get(), plan.x.get(),
                                         plan.out.get(), plan.out.get(), preference.get(), 1,
                                         &result, &num_results),
          "cublasLtMatmulAlgoGetHeuristic");
    DS_CHECK_EQ(num_results, 1) << "cuBLASLt has no algorithm for " << x.ToString() << " by "
                                << w.ToString() << " to " << out.ToString();
    plan.algorithm = result.algo;
  }

  cublasLtHandle_t handle_;
  Buffer workspace_;
  Queue& queue_;
  std::map<Key, Plan> plans_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<MatrixProducts>> CreateMatrixProducts(Device& device, Queue& queue) {
  DS_ASSIGN_OR_RETURN(Buffer workspace, device.Allocate(kWorkspaceBytes, MemoryKind::kDevice));
  cublasLtHandle_t handle = nullptr;
  const cublasStatus_t status = cublasLtCreate(&handle);
  if (status != CUBLAS_STATUS_SUCCESS) {
    return absl::InternalError(absl::StrCat("cuBLASLt: ", cublasLtGetStatusString(status)));
  }
  return std::make_unique<CublasProducts>(handle, std::move(workspace), queue);
}

}  // namespace deltaserve::cuda
