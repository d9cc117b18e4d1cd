#include "kernels/cuda/launch.h"
#include "kernels/cuda/matrix_products.h"
#include "kernels/cuda/vectors.h"

namespace deltaserve::cuda {
namespace {

constexpr int kThreads = 64;

// One thread an output.
template <typename Out>
__global__ void MultiplyKernel(const bf16* x, const bf16* w, int num_out, int depth, Out* out) {
  const int o = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
  if (o >= num_out) return;
  const bf16* row = x + static_cast<int64_t>(blockIdx.x) * depth;
  const bf16* weight = w + static_cast<int64_t>(o) * depth;
  float sum = 0;
  for (int i = 0; i < depth; ++i) sum += ToFloat(row[i]) * ToFloat(weight[i]);
  out[static_cast<int64_t>(blockIdx.x) * num_out + o] = FromFloat<Out>(sum);
}

class PlainProducts final : public MatrixProducts {
 public:
  explicit PlainProducts(Queue& queue) : queue_(queue) {}

  void Multiply(const TensorView& x, const TensorView& w, const TensorView& out) override {
    if (out.dtype() == DType::kBF16) {
      MultiplyTo(x, w, Bf16Of(out));
    } else {
      MultiplyTo(x, w, out.as<float>());
    }
  }

 private:
  template <typename Out>
  void MultiplyTo(const TensorView& x, const TensorView& w, Out* out) {
    const dim3 grid(Blocks(x.dim(0), 1), Blocks(w.dim(0), kThreads));
    Launch<&MultiplyKernel<Out>>(queue_, grid, dim3(kThreads), 0, Bf16Of(x), Bf16Of(w),
                                 static_cast<int>(w.dim(0)), static_cast<int>(w.dim(1)), out);
  }

  Queue& queue_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<MatrixProducts>> CreateMatrixProducts(Device& /*device*/,
                                                                     Queue& queue) {
  return std::make_unique<PlainProducts>(queue);
}

}  // namespace deltaserve::cuda
