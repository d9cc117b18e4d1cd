#pragma once

// device_code.h's functions for nvcc. Include device_code.h instead.

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

namespace deltaserve::cuda {

using bf16 = __nv_bfloat16;

__device__ inline float ToFloat(bf16 x) { return __bfloat162float(x); }
__device__ inline float ToFloat(float x) { return x; }
// Rounds to nearest, ties to even.
__device__ inline bf16 ToBf16(float x) { return __float2bfloat16_rn(x); }
template <typename T>
__device__ T FromFloat(float x);
template <>
__device__ inline float FromFloat<float>(float x) {
  return x;
}
template <>
__device__ inline bf16 FromFloat<bf16>(float x) {
  return ToBf16(x);
}

// Two bf16 in 32 bits, the first one in the low half.
__device__ inline float2 UnpackBf16(uint32_t pair) {
  return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000U));
}
__device__ inline uint32_t PackBf16(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

// The block's dynamic shared memory, aligned to 128 bytes.
template <typename T>
__device__ T* SharedMemory() {
  extern __shared__ __align__(128) unsigned char deltaserve_shared_memory[];
  return reinterpret_cast<T*>(deltaserve_shared_memory);
}

// The whole warp calls each. T: float, int32_t, uint32_t.
inline constexpr unsigned int kAllLanes = 0xffffffffU;
template <typename T>
__device__ T Shuffle(T value, int lane) {
  return __shfl_sync(kAllLanes, value, lane);
}
template <typename T>
__device__ T ShuffleXor(T value, int mask) {
  return __shfl_xor_sync(kAllLanes, value, mask);
}
template <typename T>
__device__ T ShuffleUp(T value, int delta) {  // lanes below `delta` keep theirs
  return __shfl_up_sync(kAllLanes, value, delta);
}
template <typename T>
__device__ T ShuffleDown(T value, int delta) {  // the last `delta` lanes keep theirs
  return __shfl_down_sync(kAllLanes, value, delta);
}
__device__ inline uint32_t Ballot(bool predicate) { return __ballot_sync(kAllLanes, predicate); }
__device__ inline bool AnyLane(bool predicate) { return __any_sync(kAllLanes, predicate) != 0; }
// What lanes wrote to shared memory before is seen by the others after.
__device__ inline void SyncWarp() { __syncwarp(); }

// d += a * b, one warp: a is 16 x 16 (rows), b is 16 x 8 (columns), bf16; d is 16 x 8, f32. With
// g = lane / 4 and t = lane % 4:
//   a[0] = A[g][2t, 2t+1]    a[1] = A[g+8][2t..]     a[2] = A[g][2t+8..]   a[3] = A[g+8][2t+8..]
//   b[0] = B[2t, 2t+1][g]    b[1] = B[2t+8, 2t+9][g]
//   d[0], d[1] = D[g][2t, 2t+1]                      d[2], d[3] = D[g+8][2t, 2t+1]
__device__ inline void MmaBf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8 x 8 matrices of bf16 from shared memory, one warp: lane i gives the address (16-byte
// aligned) of row i % 8 of matrix i / 8 and gets elements [lane / 4][2 (lane % 4), + 1] of matrix j
// in r[j]; with LoadMatricesTransposed those of its transpose.
__device__ inline void LoadMatrices(uint32_t (&r)[4], const bf16* row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
__device__ inline void LoadMatricesTransposed(uint32_t (&r)[4], const bf16* row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

// 16 bytes from global to shared memory, both aligned to 16, without waiting; zeros where not
// `valid`, and then `from` is not read. In groups: CommitCopies ends one, WaitCopies<n> waits until
// at most the last n are under way, for the calling thread's own copies (then __syncthreads()).
__device__ inline void CopyAsync16(void* to, const void* from, bool valid) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(address), "l"(from), "r"(bytes)
               : "memory");
}
__device__ inline void CommitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kLeft>
__device__ void WaitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

// 16 bytes that nothing else of the kernel reads again: kept out of the near cache.
__device__ inline uint4 LoadStreaming(const void* from) {
  return __ldcs(static_cast<const uint4*>(from));
}
__device__ inline void StoreStreaming(void* to, uint4 value) {
  __stcs(static_cast<uint4*>(to), value);
}

// The old value; orders nothing else.
__device__ inline float AtomicAdd(float* to, float value) { return atomicAdd(to, value); }
__device__ inline int32_t AtomicAdd(int32_t* to, int32_t value) { return atomicAdd(to, value); }
__device__ inline uint64_t AtomicAdd(uint64_t* to, uint64_t value) {
  return atomicAdd(reinterpret_cast<unsigned long long*>(to), value);
}
// All that this thread wrote before is seen by whoever sees what it writes after.
__device__ inline void FenceDevice() { __threadfence(); }

// 2^x; within 2 units in the last place, 0 where that is not normal.
__device__ inline float Exp2(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
}
// Where the host cannot check what lies on the device: ends the kernel with an error that the
// device's Synchronize() gives.
__device__ inline void Require(bool condition) {
  if (!condition) __trap();
}

__device__ inline uint32_t BitsOf(float x) { return __float_as_uint(x); }
__device__ inline float FloatOf(uint32_t bits) { return __uint_as_float(bits); }
// a * b, rounded before anything is added to it.
__device__ inline float MultiplyRounded(float a, float b) { return __fmul_rn(a, b); }
__device__ inline uint32_t MultiplyHigh(uint32_t a, uint32_t b) { return __umulhi(a, b); }

}  // namespace deltaserve::cuda
