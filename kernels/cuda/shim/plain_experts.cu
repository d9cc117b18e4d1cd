#include "kernels/cuda/cutlass_products.h"
#include "kernels/cuda/launch.h"

namespace deltaserve::cuda {
namespace {

constexpr int kThreads = 64;
constexpr int64_t kBlocks = 4;  // of an expert

__device__ bool IsAligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

// Blocks [experts, kBlocks], as strict as what they stand for: a thread goes from output to output.
__global__ void MultiplyKernel(ExpertMatrices m) {
  const int expert = static_cast<int>(blockIdx.x);
  const int32_t* const size = m.sizes + int64_t{3} * expert;
  const int64_t weight_stride = m.weight_stride[expert];
  const int64_t x_stride = m.x_stride[expert];
  const int64_t out_stride = m.out_stride[expert];
  Require(size[0] == m.columns && size[1] >= 0 && size[2] == m.depth);
  Require(weight_stride >= m.depth && weight_stride % 8 == 0);
  Require(x_stride >= m.depth && x_stride % 8 == 0);
  Require(out_stride >= m.columns && out_stride % 8 == 0);
  Require(IsAligned(m.weight[expert]) && IsAligned(m.x[expert]) && IsAligned(m.out[expert]));
  const bf16* const weight = static_cast<const bf16*>(m.weight[expert]);
  const bf16* const x = static_cast<const bf16*>(m.x[expert]);
  bf16* const out = static_cast<bf16*>(m.out[expert]);
  const int64_t step = static_cast<int64_t>(gridDim.y) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x;
       i < static_cast<int64_t>(size[0]) * size[1]; i += step) {
    const int64_t row = i / size[0];
    const int64_t column = i % size[0];
    float sum = 0;
    for (int k = 0; k < size[2]; ++k) {
      sum += ToFloat(x[row * x_stride + k]) * ToFloat(weight[column * weight_stride + k]);
    }
    out[row * out_stride + column] = ToBf16(sum);
  }
}

void Multiply(const ExpertMatrices& matrices, Queue& queue) {
  Launch<&MultiplyKernel>(queue, dim3(static_cast<unsigned int>(matrices.num_experts), kBlocks),
                          dim3(kThreads), 0, matrices);
}

}  // namespace

void MultiplyManyRows(const ExpertMatrices& matrices, Arena& /*arena*/, Queue& queue) {
  Multiply(matrices, queue);
}
void MultiplyFewRows(const ExpertMatrices& matrices, Arena& /*arena*/, Queue& queue) {
  Multiply(matrices, queue);
}

}  // namespace deltaserve::cuda
