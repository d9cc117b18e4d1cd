#pragma once

// Seeded values of stored tensors: a function of (seed, tensor name, index of the element) alone,
// so that ranks, threads and files agree, byte for byte on every machine.
//
// By the words of kernels/random_weights.h, element i is
//   kNormal    mean + deviation * x, x its StandardNormal(), each operation rounded once; devices
//              draw it too (Ops::FillNormal)
//   kDecay     log(1 + 15 u), kTimeStep log(exp(t) - 1) with t = 1e-3 + 0.099 u, u = the upper 53
//              bits of word 3i; in f64 by series of + - * /, so no library's last bit enters
// then RowChange, then rounding to the stored dtype.

#include <cstdint>
#include <string>

#include "worker/checkpoint/weight_spec.h"

namespace deltaserve {

// The key of a tensor: the seed, mixed with FNV-1a of the name.
uint64_t RandomKey(uint64_t seed, const std::string& name);

// Writes elements [first, first + count) of `tensor` to `out`: dtype kF32 or kBF16. Any thread.
void FillRandom(uint64_t seed,
                const StoredTensor& tensor,
                int64_t first,
                int64_t count,
                DType dtype,
                void* out);

}  // namespace deltaserve
