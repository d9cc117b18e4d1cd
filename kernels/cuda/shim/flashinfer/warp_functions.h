#pragma once

// What FlashInfer's kernels for bf16 take from CUDA, over the shim: its namespaces cp_async, math
// and mma, written from the documented meaning of the PTX instructions, and the functions of the
// language that it calls. What is declared only belongs to kernels of other types, which name it
// and are not made.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "kernels/cuda/device_code.h"
#include "kernels/cuda/shim/flashinfer/toolkit.h"

namespace deltaserve::cuda::shim {

// threadIdx as the toolkit's type.
inline ::uint3 ThreadIndex() { return {threadIdx.x, threadIdx.y, threadIdx.z}; }

// cp.async of 16 bytes, and stmatrix: lane i gives the address of row i % 8 of matrix i / 8, and
// elements [i / 4][2 (i % 4), + 1] of matrix j in r[j]. Both check that the block has that memory.
void CopyToShared(void* to, const void* from, bool valid, Where at);
void StoreMatrices(const uint32_t* r, void* row, Where at);

}  // namespace deltaserve::cuda::shim

// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming): CUDA's and FlashInfer's
template <typename T>
T __ldg(const T* from) {
  return *from;
}
inline float __fdividef(float a, float b) { return a / b; }
template <typename T>
T __shfl_xor_sync(unsigned int /*lanes*/,
                  T value,
                  int mask,
                  deltaserve::cuda::shim::Where at = deltaserve::cuda::shim::Here()) {
  return deltaserve::cuda::ShuffleXor(value, mask, at);
}
template <typename T>
T __shfl_sync(unsigned int /*lanes*/,
              T value,
              int lane,
              deltaserve::cuda::shim::Where at = deltaserve::cuda::shim::Here()) {
  return deltaserve::cuda::Shuffle(value, lane, at);
}
inline void __syncwarp(deltaserve::cuda::shim::Where at = deltaserve::cuda::shim::Here()) {
  deltaserve::cuda::SyncWarp(at);
}
unsigned int __byte_perm(unsigned int a, unsigned int b, unsigned int selector);
float __frcp_rn(float x);
template <typename T>
T __ldca(const T* from);

namespace cooperative_groups {

struct thread_block {
  static void sync(deltaserve::cuda::shim::Where at = deltaserve::cuda::shim::Here()) {
    deltaserve::cuda::shim::BlockBarrier(at);
  }
};
inline thread_block this_thread_block() { return {}; }

}  // namespace cooperative_groups

namespace flashinfer {

using ::deltaserve::cuda::blockDim;
using ::deltaserve::cuda::blockIdx;
using ::deltaserve::cuda::gridDim;
using ::deltaserve::cuda::shim::Here;
using ::deltaserve::cuda::shim::Where;

// CUDA's: of two floats the other one where one is NaN, of an int and an unsigned one unsigned.
inline float max(float a, float b) { return std::fmax(a, b); }
inline float min(float a, float b) { return std::fmin(a, b); }
template <typename A, typename B>
constexpr std::common_type_t<A, B> max(A a, B b) {
  return std::max<std::common_type_t<A, B>>(a, b);
}
template <typename A, typename B>
constexpr std::common_type_t<A, B> min(A a, B b) {
  return std::min<std::common_type_t<A, B>>(a, b);
}

namespace math {

inline constexpr float log2e = 1.44269504088896341F;
inline constexpr float loge2 = 0.69314718055994531F;
inline constexpr float inf = INFINITY;

inline float ptx_exp2(float x) { return std::exp2(x); }
half2 ptx_exp2(half2 x);
inline float ptx_log2(float x) { return std::log2(x); }
inline float ptx_rcp(float x) { return 1.0F / x; }
inline float rsqrt(float x) { return 1.0F / std::sqrt(x); }
inline float tanh(float x) { return std::tanh(x); }
inline float shfl_xor_sync(float x, int mask, Where at = Here()) {
  return ::deltaserve::cuda::ShuffleXor(x, mask, at);
}
half2 shfl_xor_sync(half2 x, int mask);

}  // namespace math

namespace cp_async {

enum class SharedMemFillMode { kFillZero, kNoFill };  // where the predicate is false
enum class PrefetchMode { kNoPrefetch, kPrefetch };

inline void commit_group() { ::deltaserve::cuda::CommitCopies(); }
template <size_t n>
void wait_group() {
  ::deltaserve::cuda::WaitCopies<static_cast<int>(n)>();
}

template <PrefetchMode prefetch, typename T>
void load_128b(T* to, const T* from, Where at = Here()) {
  ::deltaserve::cuda::shim::CopyToShared(to, from, true, at);
}
template <PrefetchMode prefetch, SharedMemFillMode fill, typename T>
void pred_load_128b(T* to, const T* from, bool predicate, Where at = Here()) {
  if (predicate || fill == SharedMemFillMode::kFillZero) {
    ::deltaserve::cuda::shim::CopyToShared(to, from, predicate, at);
  }
}
template <size_t bits, PrefetchMode prefetch, SharedMemFillMode fill, typename T>
void pred_load(T* to, const T* from, bool predicate, Where at = Here()) {
  static_assert(bits % 128 == 0);
  constexpr size_t kElements = 16 / sizeof(T);
  for (size_t i = 0; i < bits / 128; ++i) {
    pred_load_128b<prefetch, fill>(to + i * kElements, from + i * kElements, predicate, at);
  }
}
template <PrefetchMode prefetch, SharedMemFillMode fill, typename T>
void pred_load_128b_from_64b(T* to, const T* from, bool predicate);
template <SharedMemFillMode fill>
void pred_load_32b(uint32_t* to, const uint32_t* from, bool predicate);

}  // namespace cp_async

namespace mma {

enum class MMAMode { kInit, kInplaceUpdate };

template <typename T>
void ldmatrix_m8n8x4(uint32_t* r, T* row, Where at = Here()) {
  uint32_t out[4];
  ::deltaserve::cuda::LoadMatrices(out, reinterpret_cast<const ::deltaserve::cuda::bf16*>(row), at);
  std::copy_n(out, 4, r);
}
template <typename T>
void ldmatrix_m8n8x4_trans(uint32_t* r, T* row, Where at = Here()) {
  uint32_t out[4];
  ::deltaserve::cuda::LoadMatricesTransposed(
      out, reinterpret_cast<const ::deltaserve::cuda::bf16*>(row), at);
  std::copy_n(out, 4, r);
}
template <typename T>
void stmatrix_m8n8x4(uint32_t* r, T* row, Where at = Here()) {
  ::deltaserve::cuda::shim::StoreMatrices(r, row, at);
}

// Two of MmaBf16, for columns 0-7 (c[0..3], b[0..1]) and 8-15 (c[4..7], b[2..3]).
template <typename T, MMAMode mode = MMAMode::kInplaceUpdate>
void mma_sync_m16n16k16_row_col_f16f16f32(float* c, uint32_t* a, uint32_t* b, Where at = Here()) {
  static_assert(std::is_same_v<T, __nv_bfloat16>);
  const uint32_t rows[4] = {a[0], a[1], a[2], a[3]};
  for (size_t half = 0; half < 2; ++half) {
    float d[4] = {};
    if constexpr (mode == MMAMode::kInplaceUpdate) std::copy_n(c + 4 * half, 4, d);
    ::deltaserve::cuda::MmaBf16(d, rows, {b[2 * half], b[2 * half + 1]}, at);
    std::copy_n(d, 4, c + 4 * half);
  }
}

// Adds the sums of rows g and g + 8 of an MmaBf16's a to d[0] and d[1]: a product with ones, of
// which a lane keeps one column.
template <typename T>
void m16k16_rowsum_f16f16f32(float* d, T* s, Where at = Here()) {
  static_assert(std::is_same_v<T, __nv_bfloat16>);
  uint32_t a[4];
  std::memcpy(a, s, sizeof(a));
  const uint32_t ones = ::deltaserve::cuda::PackBf16(1.0F, 1.0F);
  float sums[4] = {d[0], 0.0F, d[1], 0.0F};
  ::deltaserve::cuda::MmaBf16(sums, a, {ones, ones}, at);
  d[0] = sums[0];
  d[1] = sums[2];
}

template <typename T>
void ldmatrix_m8n8x4_left_half(uint32_t* r, T* row);
template <typename T>
void ldmatrix_m8n8x4_right_half(uint32_t* r, T* row);
template <typename T>
void ldmatrix_m8n8x4_trans_left_half(uint32_t* r, T* row);
template <typename T>
void ldmatrix_m8n8x4_trans_right_half(uint32_t* r, T* row);
template <MMAMode mode = MMAMode::kInplaceUpdate>
void mma_sync_m16n16k16_row_col_f16f16f16(uint32_t* c, uint32_t* a, uint32_t* b);

}  // namespace mma
}  // namespace flashinfer
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)
