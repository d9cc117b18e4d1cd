#pragma once

// Seeded values of stored tensors: a function of (seed, tensor name, index of the element) alone,
// so that ranks, threads and files agree, byte for byte on every machine.
//
// Word n of a tensor is splitmix64's output for state key + (n + 1) * golden ratio, where key mixes
// the seed with FNV-1a of the name. Element i uses words 3i, 3i+1 and 3i+2:
//   kNormal    the sum of their twelve 16-bit parts, less its mean, / 2^16: an integer of 20 bits
//              (Irwin-Hall, standard deviation 1, at most 6 from the mean), so exact in f32; then
//              mean + deviation * x, each operation rounded once
//   kDecay     log(1 + 15 u), kTimeStep log(exp(t) - 1) with t = 1e-3 + 0.099 u, u = the upper 53
//              bits of word 3i; in f64 by series of + - * /, so no library's last bit enters
// then RowChange, then rounding to the stored dtype.

#include <cstdint>

#include "worker/checkpoint/weight_spec.h"

namespace deltaserve {

// Writes elements [first, first + count) of `tensor` to `out`: dtype kF32 or kBF16. Any thread.
void FillRandom(uint64_t seed,
                const StoredTensor& tensor,
                int64_t first,
                int64_t count,
                DType dtype,
                void* out);

}  // namespace deltaserve
