#pragma once

// Device code that Sample and LogProbs share: the order of the ids of a row of logits, their
// weights, and walks over a row by a block.
//
// The order is total: larger logits first, ties by id, NaN last. So whatever top_k and top_p keep
// is all that comes up to one place of it. Weights are integers, so that their sums depend neither
// on the order of additions nor on how a row is cut into parts.

#include "kernels/cuda/device_code.h"
#include "kernels/cuda/sample.h"

namespace deltaserve::cuda {

// Blocks that share a row at most; each has one part of it.
inline constexpr int kMaxParts = 32;

// Ascending where logits descend; 0 and -0 alike; NaN last.
__device__ inline uint32_t OrderOf(float logit) {
  if (!(logit == logit)) return 0xffffffffU;
  const uint32_t bits = BitsOf(logit + 0.0F);  // -0 becomes 0
  return (bits & 0x80000000U) != 0 ? bits : 0x7fffffffU - bits;
}
__device__ inline float LogitOfOrder(uint32_t order) {
  return FloatOf((order & 0x80000000U) != 0 ? order : 0x7fffffffU - order);
}

// An id's place in the order of its row.
__device__ inline uint64_t PlaceOf(float logit, uint32_t id) {
  return uint64_t{OrderOf(logit)} << 32 | id;
}

// Weights exp((logit - max) / temperature) in units of 2^-44: up to 2^20 of them fit in 64 bits.
inline constexpr int kWeightBits = 44;
static_assert(kMaxTokens <= int64_t{1} << (63 - kWeightBits));

// Bins of equal width in (max - logit) / temperature, the last one without an end. What lies there
// weighs less than one unit.
inline constexpr int kBins = 1024;
inline constexpr float kBinsPerUnit = 32.0F;

// How far a logit lies below the largest of its row, in units of temperature; NaN for NaN.
__device__ inline float Below(float logit, float max, float temperature) {
  return logit == max ? 0.0F : (max - logit) / temperature;
}

__device__ inline int BinOf(float below) {
  return static_cast<int>(fminf(below * kBinsPerUnit, static_cast<float>(kBins - 1)));
}

__device__ inline uint64_t WeightOf(float below) {
  constexpr float kEnd = static_cast<float>(kBins - 1) / kBinsPerUnit;
  if (!(below < kEnd)) return 0;
  return static_cast<uint64_t>(expf(-below) * static_cast<float>(int64_t{1} << kWeightBits));
}

// Part `part` of `parts` of [0, count): [begin, end), cut at multiples of 4.
struct Part {
  int64_t begin;
  int64_t end;
};
__device__ inline Part PartOf(int64_t count, int part, int parts) {
  const int64_t size = ((count + 3) / 4 + parts - 1) / parts * 4;
  const int64_t begin = size * part < count ? size * part : count;
  return {begin, begin + size < count ? begin + size : count};
}

// x[0 .. 3] = row[i .. i + 3], as far as they lie before `end`.
__device__ inline void LoadFour(const float* row, int64_t i, int64_t end, float (&x)[4]) {
  const float* from = row + i;
  if (i + 4 <= end && reinterpret_cast<uintptr_t>(from) % 16 == 0) {
    const float4 four = *reinterpret_cast<const float4*>(from);
    x[0] = four.x;
    x[1] = four.y;
    x[2] = four.z;
    x[3] = four.w;
    return;
  }
#pragma unroll
  for (int k = 0; k < 4; ++k) x[k] = i + k < end ? from[k] : 0.0F;
}

// A walk calls visit.Look(logit) for every id and visit.Take(logit, id) for those of which Look()
// was true: what is costly or seldom is done there. By all threads of a one-dimensional block.

// The ids of a part of a row. Look() may see some more before Take() sees the first.
template <typename Visit>
__device__ void VisitRow(const float* row, Part part, Visit& visit) {
  constexpr int kAhead = 4;  // loads under way at once
  const int64_t stride = int64_t{4} * blockDim.x;
  for (int64_t base = part.begin + int64_t{4} * threadIdx.x; base < part.end;
       base += kAhead * stride) {
    float x[kAhead][4];
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      if (base + j * stride < part.end) LoadFour(row, base + j * stride, part.end, x[j]);
    }
    uint32_t taken = 0;
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if (base + j * stride + k < part.end && visit.Look(x[j][k])) taken |= 1U << (4 * j + k);
      }
    }
#pragma unroll 1
    for (int n = 0; taken != 0; ++n, taken >>= 1) {
      if ((taken & 1U) == 0) continue;
      const int64_t i = base + n / 4 * stride + n % 4;
      visit.Take(row[i], static_cast<uint32_t>(i));
    }
  }
}

// Some ids of a row, in any order: places.
template <typename Visit>
__device__ void VisitList(const uint64_t* list, Part part, Visit& visit) {
#pragma unroll 1
  for (int64_t i = part.begin + threadIdx.x; i < part.end; i += blockDim.x) {
    const uint64_t place = list[i];
    const float logit = LogitOfOrder(static_cast<uint32_t>(place >> 32));
    if (visit.Look(logit)) visit.Take(logit, static_cast<uint32_t>(place));
  }
}

}  // namespace deltaserve::cuda
