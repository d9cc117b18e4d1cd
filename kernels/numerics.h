#pragma once

// Numerics: the dtypes of tensors that a device chooses, by the role of the tensor.

#include "kernels/tensor/dtype.h"

namespace deltaserve {

// What is allocated, counted or sent in one of these roles has the device's dtype of it; nothing
// else names a dtype of its own for them. Everything else is f32 on every device: the residual,
// conv and recurrent states, the router's logits and weights, logits and what is sampled from them.
// Ops add in f32 or wider whatever the dtypes are.
struct Numerics {
  DType activation = DType::kF32;  // what layers pass on: normed rows, projections, their outputs
  DType kv = DType::kF32;          // keys and values of the paged cache
  DType reduction = DType::kF32;   // partial sums of ranks and their sum, in exchange buffers

  bool operator==(const Numerics&) const = default;
};

inline constexpr Numerics kF32Numerics;
inline constexpr Numerics kBF16Numerics{
    .activation = DType::kBF16, .kv = DType::kBF16, .reduction = DType::kBF16};

}  // namespace deltaserve
