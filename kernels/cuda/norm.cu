#include "kernels/cuda/launch.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/vectors.h"

namespace deltaserve::cuda {
namespace {

constexpr int kMaxThreads = 1024;

// Units of a row that one thread keeps in registers between the sum and the output.
template <int kUnit>
inline constexpr int kHeld = 16 / kUnit;

// One block a row. `delta`: [parts, rows, width], null where nothing is added; then `residual` is
// only read. `out` may be a delta of one part: a thread writes only what it has read.
template <int kUnit, typename Delta>
__global__ void __launch_bounds__(kMaxThreads) AddRmsNormKernel(const Delta* delta,
                                                                int parts,
                                                                int64_t part_stride,
                                                                float* residual,
                                                                const float* weight,
                                                                float eps,
                                                                int width,
                                                                bf16* out) {
  __shared__ float shared[kWarp];
  const int64_t row = static_cast<int64_t>(blockIdx.x) * width;
  const int units = width / kUnit;
  const int first = static_cast<int>(threadIdx.x);
  const int step = static_cast<int>(blockDim.x);
  Unit<kUnit> held[kHeld<kUnit>];
  float squares = 0;
#pragma unroll
  for (int k = 0; k < kHeld<kUnit>; ++k) {
    const int unit = first + k * step;
    if (unit >= units) continue;
    const int64_t at = row + static_cast<int64_t>(unit) * kUnit;
    held[k] = LoadUnit<kUnit>(residual + at);
    if (delta != nullptr) {
      Unit<kUnit> sum = LoadUnit<kUnit>(delta + at);
      for (int p = 1; p < parts; ++p) {
        const Unit<kUnit> part = LoadUnit<kUnit>(delta + p * part_stride + at);
#pragma unroll
        for (int i = 0; i < kUnit; ++i) sum.x[i] += part.x[i];
      }
#pragma unroll
      for (int i = 0; i < kUnit; ++i) held[k].x[i] += sum.x[i];
      StoreUnit(residual + at, held[k]);
    }
#pragma unroll
    for (int i = 0; i < kUnit; ++i) squares += held[k].x[i] * held[k].x[i];
  }
  const float mean = BlockSum(squares, shared) / static_cast<float>(width);
  const float scale = rsqrtf(mean + eps);
#pragma unroll
  for (int k = 0; k < kHeld<kUnit>; ++k) {
    const int unit = first + k * step;
    if (unit >= units) continue;
    const Unit<kUnit> w = LoadUnit<kUnit>(weight + unit * kUnit);
#pragma unroll
    for (int i = 0; i < kUnit; ++i) held[k].x[i] *= scale * w.x[i];
    StoreUnit(out + row + static_cast<int64_t>(unit) * kUnit, held[k]);
  }
}

// Blocks [rows, columns / threads]. gate_up: [rows, 2 width], out: [rows, width].
template <int kUnit>
__global__ void SiluMulKernel(const bf16* gate_up, int width, bf16* out) {
  const int column = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x) * kUnit;
  if (column >= width) return;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * width;
  Unit<kUnit> gate = LoadUnit<kUnit>(gate_up + 2 * row + column);
  const Unit<kUnit> up = LoadUnit<kUnit>(gate_up + 2 * row + width + column);
#pragma unroll
  for (int i = 0; i < kUnit; ++i) gate.x[i] = Silu(gate.x[i]) * up.x[i];
  StoreUnit(out + row + column, gate);
}

template <int kUnit, typename Delta>
void Normalize(const Delta* delta,
               int64_t parts,
               const TensorView& residual,
               const TensorView& weight,
               float eps,
               const TensorView& out,
               Queue& queue) {
  const int64_t width = residual.dim(1);
  const int64_t units = width / kUnit;
  static_assert(kMaxThreads * kHeld<kUnit> * kUnit == kMaxNormWidth);
  DS_CHECK_LE(width, kMaxNormWidth) << residual.ToString();
  Launch<&AddRmsNormKernel<kUnit, Delta>>(
      queue, dim3(Blocks(residual.dim(0), 1)), dim3(ThreadsFor(units, kMaxThreads)), 0, delta,
      static_cast<int>(parts), residual.numel(), residual.as<float>(), weight.as<float>(), eps,
      static_cast<int>(width), Bf16Of(out));
}

template <typename Delta>
void AddNormalize(const AddRmsNormArgs& args, const Delta* delta, int64_t parts, Queue& queue) {
  if (ByEights(args.residual.dim(1), {&args.delta, &args.residual, &args.weight, &args.out})) {
    Normalize<8>(delta, parts, args.residual, args.weight, args.eps, args.out, queue);
  } else {
    Normalize<1>(delta, parts, args.residual, args.weight, args.eps, args.out, queue);
  }
}

}  // namespace

void RmsNorm(const RmsNormArgs& args, Queue& queue) {
  const int64_t width = args.x.dim(1);
  DS_CHECK(args.weight.numel() == width && args.out.numel() == args.x.numel())
      << args.x.ToString() << " by " << args.weight.ToString() << " to " << args.out.ToString();
  const bf16* none = nullptr;
  if (ByEights(width, {&args.x, &args.weight, &args.out})) {
    Normalize<8>(none, 0, args.x, args.weight, args.eps, args.out, queue);
  } else {
    Normalize<1>(none, 0, args.x, args.weight, args.eps, args.out, queue);
  }
}

void AddRmsNorm(const AddRmsNormArgs& args, Queue& queue) {
  const int64_t width = args.residual.dim(1);
  const int64_t parts = args.delta.rank() == 3 ? args.delta.dim(0) : 1;
  DS_CHECK(args.weight.numel() == width && args.out.numel() == args.residual.numel() &&
           args.delta.numel() == parts * args.residual.numel())
      << args.residual.ToString() << " plus " << args.delta.ToString();
  if (args.delta.dtype() == DType::kBF16) {
    AddNormalize(args, Bf16Of(args.delta), parts, queue);
  } else {
    AddNormalize(args, args.delta.as<float>(), parts, queue);
  }
}

void SiluMul(const SiluMulArgs& args, Queue& queue) {
  constexpr int64_t kThreads = 256;
  const int64_t rows = args.out.dim(0);
  const int64_t width = args.out.dim(1);
  DS_CHECK_EQ(args.gate_up.numel(), 2 * args.out.numel()) << args.gate_up.ToString();
  const bool eights = ByEights(width, {&args.gate_up, &args.out});
  const int64_t units = eights ? width / 8 : width;
  const unsigned int threads = ThreadsFor(units, kThreads);
  const dim3 grid(Blocks(rows, 1), Blocks(units, threads));
  const bf16* gate_up = Bf16Of(args.gate_up);
  if (eights) {
    Launch<&SiluMulKernel<8>>(queue, grid, dim3(threads), 0, gate_up, static_cast<int>(width),
                              Bf16Of(args.out));
  } else {
    Launch<&SiluMulKernel<1>>(queue, grid, dim3(threads), 0, gate_up, static_cast<int>(width),
                              Bf16Of(args.out));
  }
}

}  // namespace deltaserve::cuda
