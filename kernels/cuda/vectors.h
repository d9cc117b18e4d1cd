#pragma once

// Eight neighbouring elements at a time: one access of 16 bytes where they are bf16, two where f32.
// And the host's side of it: which rows can be walked so.

#include <cstdint>

#include "kernels/cuda/device_code.h"
#include "kernels/tensor/tensor_view.h"

namespace deltaserve::cuda {

struct Eight {
  float x[8];
};

// `from` and `to` are aligned to 16 bytes.
__device__ inline Eight LoadEight(const bf16* from) {
  const uint4 bits = *reinterpret_cast<const uint4*>(from);
  const float2 a = UnpackBf16(bits.x);
  const float2 b = UnpackBf16(bits.y);
  const float2 c = UnpackBf16(bits.z);
  const float2 d = UnpackBf16(bits.w);
  return {{a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y}};
}
__device__ inline Eight LoadEight(const float* from) {
  const float4 a = *reinterpret_cast<const float4*>(from);
  const float4 b = *reinterpret_cast<const float4*>(from + 4);
  return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}
__device__ inline void StoreEight(bf16* to, const Eight& v) {
  *reinterpret_cast<uint4*>(to) = make_uint4(PackBf16(v.x[0], v.x[1]), PackBf16(v.x[2], v.x[3]),
                                             PackBf16(v.x[4], v.x[5]), PackBf16(v.x[6], v.x[7]));
}
__device__ inline void StoreEight(float* to, const Eight& v) {
  *reinterpret_cast<float4*>(to) = make_float4(v.x[0], v.x[1], v.x[2], v.x[3]);
  *reinterpret_cast<float4*>(to + 4) = make_float4(v.x[4], v.x[5], v.x[6], v.x[7]);
}

// kUnit elements from `from`: 8 as above, or 1 at any address.
template <int kUnit>
struct Unit {
  float x[kUnit];
};
template <int kUnit, typename T>
__device__ Unit<kUnit> LoadUnit(const T* from) {
  Unit<kUnit> unit;
  if constexpr (kUnit == 1) {
    unit.x[0] = ToFloat(*from);
  } else {
    const Eight eight = LoadEight(from);
#pragma unroll
    for (int i = 0; i < kUnit; ++i) unit.x[i] = eight.x[i];
  }
  return unit;
}
template <int kUnit, typename T>
__device__ void StoreUnit(T* to, const Unit<kUnit>& unit) {
  if constexpr (kUnit == 1) {
    *to = FromFloat<T>(unit.x[0]);
  } else {
    Eight eight;
#pragma unroll
    for (int i = 0; i < kUnit; ++i) eight.x[i] = unit.x[i];
    StoreEight(to, eight);
  }
}

// A bf16 tensor for a kernel.
inline bf16* Bf16Of(const TensorView& view) { return reinterpret_cast<bf16*>(view.as<BFloat16>()); }

// Whether rows of `width` elements of these tensors can be walked by eights.
inline bool ByEights(int64_t width, std::initializer_list<const TensorView*> tensors) {
  constexpr uintptr_t kBytes = 16;
  if (width % 8 != 0) return false;
  for (const TensorView* tensor : tensors) {
    if (reinterpret_cast<uintptr_t>(tensor->data()) % kBytes != 0) return false;
  }
  return true;
}

// Threads of a block that walks `units` together: a multiple of 32, at most `most`.
inline unsigned int ThreadsFor(int64_t units, int64_t most) {
  const int64_t threads = (units + kWarp - 1) / kWarp * kWarp;
  return static_cast<unsigned int>(threads < kWarp ? kWarp : threads > most ? most : threads);
}

}  // namespace deltaserve::cuda
