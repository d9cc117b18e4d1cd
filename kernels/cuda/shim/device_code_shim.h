#pragma once

// device_code.h's functions for the host's compiler: the same names and meaning, lanes exchanging
// through shim/fibers.h. Include device_code.h instead.
//
// What it cannot show: a lane's write to shared memory that others read without SyncWarp() just
// after another warp function; blocks that wait for each other (they run one after the other).

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/base/check.h"
#include "kernels/cuda/shim/fibers.h"
#include "kernels/cuda/shim/shared_arrays.h"
#include "kernels/tensor/dtype.h"

// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming): CUDA's names
#define __global__
#define __device__
#define __host__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __syncthreads() ::deltaserve::cuda::shim::BlockBarrier(::deltaserve::cuda::shim::Here())
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)

namespace deltaserve::cuda {

// NOLINTBEGIN(readability-identifier-naming): CUDA's names
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned int x, y;
};
struct alignas(16) uint4 {
  unsigned int x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned int x, unsigned int y) { return {x, y}; }
inline uint4 make_uint4(unsigned int x, unsigned int y, unsigned int z, unsigned int w) {
  return {x, y, z, w};
}

inline float rsqrtf(float x) { return 1.0F / std::sqrt(x); }

struct bf16 {
  uint16_t bits;
};
// NOLINTEND(readability-identifier-naming)

inline uint32_t BitsOf(float x) { return std::bit_cast<uint32_t>(x); }
inline float FloatOf(uint32_t bits) { return std::bit_cast<float>(bits); }

inline float ToFloat(bf16 x) { return FloatOf(uint32_t{x.bits} << 16); }
inline float ToFloat(float x) { return x; }
inline bf16 ToBf16(float x) { return {ToBFloat16(x).bits}; }
template <typename T>
T FromFloat(float x);
template <>
inline float FromFloat<float>(float x) {
  return x;
}
template <>
inline bf16 FromFloat<bf16>(float x) {
  return ToBf16(x);
}

inline float2 UnpackBf16(uint32_t pair) {
  return make_float2(FloatOf(pair << 16), FloatOf(pair & 0xffff0000U));
}
inline uint32_t PackBf16(float low, float high) {
  return uint32_t{ToBf16(low).bits} | uint32_t{ToBf16(high).bits} << 16;
}

template <typename T>
T* SharedMemory() {
  return static_cast<T*>(shim::SharedMemory());
}

namespace shim {

// What lane `lane` gave to the call, or was made for it.
template <typename T>
T Given(const Exchange& exchange, int lane) {
  T value;
  std::memcpy(&value, exchange.given[lane], sizeof(T));
  return value;
}
template <typename T>
T Made(const Exchange& exchange, int lane) {
  T value;
  std::memcpy(&value, exchange.made[lane], sizeof(T));
  return value;
}

template <typename T>
const Exchange& Give(const char* function, const T& value, Where at) {
  static_assert(sizeof(T) <= kSlotBytes);
  return WarpCall(function, &value, sizeof(T), nullptr, at);
}

struct MmaOperands {
  uint32_t a[4];
  uint32_t b[2];
};
struct MmaResult {
  float d[4];
};
void MakeMma(Exchange& exchange);
void MakeMatrices(Exchange& exchange);
void MakeMatricesTransposed(Exchange& exchange);
void LoadMatrices(uint32_t (&r)[4],
                  const bf16* row,
                  const char* function,
                  void (*make)(Exchange& exchange),
                  Where at);
void CheckAligned16(const char* function, const void* address, Where at);

}  // namespace shim

// T: float, int32_t, uint32_t. A lane index is taken modulo 32, as the GPU does.
inline constexpr unsigned int kAllLanes = 0xffffffffU;
template <typename T>
T Shuffle(T value, int lane, shim::Where at = shim::Here()) {
  return shim::Given<T>(shim::Give("Shuffle", value, at), lane & (shim::kLanes - 1));
}
template <typename T>
T ShuffleXor(T value, int mask, shim::Where at = shim::Here()) {
  const int from = shim::Lane() ^ mask;
  const shim::Exchange& exchange = shim::Give("ShuffleXor", value, at);
  return from < shim::kLanes ? shim::Given<T>(exchange, from) : value;
}
template <typename T>
T ShuffleUp(T value, int delta, shim::Where at = shim::Here()) {
  const int from = shim::Lane() - delta;
  const shim::Exchange& exchange = shim::Give("ShuffleUp", value, at);
  return from >= 0 ? shim::Given<T>(exchange, from) : value;
}
template <typename T>
T ShuffleDown(T value, int delta, shim::Where at = shim::Here()) {
  const int from = shim::Lane() + delta;
  const shim::Exchange& exchange = shim::Give("ShuffleDown", value, at);
  return from < shim::kLanes ? shim::Given<T>(exchange, from) : value;
}
inline uint32_t Ballot(bool predicate, shim::Where at = shim::Here()) {
  const shim::Exchange& exchange = shim::Give("Ballot", predicate, at);
  uint32_t votes = 0;
  for (int lane = 0; lane < shim::kLanes; ++lane) {
    if (shim::Given<bool>(exchange, lane)) votes |= 1U << lane;
  }
  return votes;
}
inline bool AnyLane(bool predicate, shim::Where at = shim::Here()) {
  return Ballot(predicate, at) != 0;
}
inline void SyncWarp(shim::Where at = shim::Here()) {
  shim::WarpCall("SyncWarp", nullptr, 0, nullptr, at);
}

// Products are exact, sums in f32 in ascending k; a GPU's order within 16 is its own.
inline void MmaBf16(float (&d)[4],
                    const uint32_t (&a)[4],
                    const uint32_t (&b)[2],
                    shim::Where at = shim::Here()) {
  const shim::MmaOperands operands = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  const shim::Exchange& exchange =
      shim::WarpCall("MmaBf16", &operands, sizeof(operands), &shim::MakeMma, at);
  const auto result = shim::Made<shim::MmaResult>(exchange, shim::Lane());
  for (int i = 0; i < 4; ++i) d[i] += result.d[i];
}

inline void LoadMatrices(uint32_t (&r)[4], const bf16* row, shim::Where at = shim::Here()) {
  shim::LoadMatrices(r, row, "LoadMatrices", &shim::MakeMatrices, at);
}
inline void LoadMatricesTransposed(uint32_t (&r)[4],
                                   const bf16* row,
                                   shim::Where at = shim::Here()) {
  shim::LoadMatrices(r, row, "LoadMatricesTransposed", &shim::MakeMatricesTransposed, at);
}

// The bytes arrive in WaitCopies; until then there is garbage.
inline void CopyAsync16(void* to, const void* from, bool valid, shim::Where at = shim::Here()) {
  shim::CopyAsync(to, from, valid, at);
}
inline void CommitCopies() { shim::CommitCopies(); }
template <int kLeft>
void WaitCopies() {
  shim::WaitCopies(kLeft);
}

inline uint4 LoadStreaming(const void* from, shim::Where at = shim::Here()) {
  shim::CheckAligned16("LoadStreaming", from, at);
  return *static_cast<const uint4*>(from);
}
inline void StoreStreaming(void* to, uint4 value, shim::Where at = shim::Here()) {
  shim::CheckAligned16("StoreStreaming", to, at);
  *static_cast<uint4*>(to) = value;
}

inline float AtomicAdd(float* to, float value) {
  const float old = *to;
  *to += value;
  return old;
}
inline int32_t AtomicAdd(int32_t* to, int32_t value) {
  const int32_t old = *to;
  *to += value;
  return old;
}
inline uint64_t AtomicAdd(uint64_t* to, uint64_t value) {
  const uint64_t old = *to;
  *to += value;
  return old;
}
inline void FenceDevice() {}

inline float Exp2(float x) { return std::exp2(x); }

inline void Require(bool condition, shim::Where at = shim::Here()) {
  DS_CHECK(condition) << "Require at " << at.file << ":" << at.line;
}

inline float MultiplyRounded(float a, float b) { return a * b; }
inline uint32_t MultiplyHigh(uint32_t a, uint32_t b) {
  return static_cast<uint32_t>(uint64_t{a} * b >> 32);
}

}  // namespace deltaserve::cuda
