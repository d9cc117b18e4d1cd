#include "kernels/cuda/fill_normal.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/vectors.h"
#include "kernels/random_weights.h"

namespace deltaserve::cuda {
namespace {

constexpr int kThreads = 256;

// FillNormalArgs as a kernel takes them.
struct Draw {
  uint64_t key;
  uint64_t first;
  uint64_t stride;
  float mean;
  float deviation;
  float scale;
  float offset;
};

__device__ float Drawn(const Draw& draw, uint64_t element) {
  const float x = StandardNormal(draw.key, element);
  const float value = draw.mean + MultiplyRounded(draw.deviation, x);
  return MultiplyRounded(draw.scale, value) + draw.offset;
}

// One thread a unit of a row; rows have `row_units`.
template <int kUnit, typename Out>
__global__ void FillNormalKernel(Draw draw, uint64_t row_units, uint64_t units, Out* out) {
  const uint64_t i = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= units) return;
  const uint64_t row = i / row_units;
  const uint64_t element = draw.first + row * draw.stride + (i - row * row_units) * kUnit;
  Unit<kUnit> unit;
#pragma unroll
  for (int j = 0; j < kUnit; ++j) unit.x[j] = Drawn(draw, element + static_cast<uint64_t>(j));
  StoreUnit(out + i * kUnit, unit);
}

template <int kUnit, typename Out>
void FillUnits(const FillNormalArgs& args, Out* out, Queue& queue) {
  const Draw draw = {.key = args.key,
                     .first = static_cast<uint64_t>(args.first),
                     .stride = static_cast<uint64_t>(args.stride),
                     .mean = args.mean,
                     .deviation = args.deviation,
                     .scale = args.scale,
                     .offset = args.offset};
  const int64_t units = args.out.numel() / kUnit;
  Launch<&FillNormalKernel<kUnit, Out>>(queue, dim3(Blocks(units, kThreads)), dim3(kThreads), 0,
                                        draw, static_cast<uint64_t>(args.out.dim(1) / kUnit),
                                        static_cast<uint64_t>(units), out);
}

template <typename Out>
void FillAs(const FillNormalArgs& args, Out* out, Queue& queue) {
  if (ByEights(args.out.dim(1), {&args.out})) {
    FillUnits<8>(args, out, queue);
  } else {
    FillUnits<1>(args, out, queue);
  }
}

}  // namespace

void FillNormal(const FillNormalArgs& args, Queue& queue) {
  if (args.out.numel() == 0) return;
  if (args.out.dtype() == DType::kBF16) {
    FillAs(args, Bf16Of(args.out), queue);
  } else {
    FillAs(args, args.out.as<float>(), queue);
  }
}

}  // namespace deltaserve::cuda
