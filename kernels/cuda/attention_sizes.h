#pragma once

// The sizes that the attention kernels are written for, and views as bf16. For .cu files.

#include "kernels/cuda/vectors.h"
#include "kernels/ops.h"

namespace deltaserve::cuda {

inline constexpr int kHeadDim = 256;
inline constexpr int kBlock = static_cast<int>(kBlockTokens);  // positions of a KV block

// A bf16 tensor of which a kernel reads or writes 16 bytes at a time.
inline bf16* AlignedBf16Of(const TensorView& view) {
  DS_CHECK(reinterpret_cast<uintptr_t>(view.data()) % 16 == 0) << view.ToString();
  return Bf16Of(view);
}

// Both bf16 [blocks, num_kv_heads, kBlock, kHeadDim].
inline void CheckCache(const TensorView& k, const TensorView& v, int64_t num_kv_heads) {
  DS_CHECK(k.dim(1) == num_kv_heads && k.dim(2) == kBlock && k.dim(3) == kHeadDim &&
           v.numel() == k.numel())
      << k.ToString();
}

}  // namespace deltaserve::cuda
