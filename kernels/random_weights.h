#pragma once

// The numbers of random weights: a function of (key of a tensor, index of an element) alone, by
// arithmetic that is exact, so that all devices and machines draw the same bits. Kernels of a GPU
// call the functions too.
//
// Word n of a tensor is splitmix64's output for state key + (n + 1) * golden ratio. Element i uses
// words 3i, 3i + 1 and 3i + 2.

#include <cstdint>

#include "kernels/random.h"

namespace deltaserve {

inline constexpr uint64_t kGoldenRatio = 0x9e3779b97f4a7c15u;

// splitmix64's finaliser.
DELTASERVE_EVERYWHERE constexpr uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

DELTASERVE_EVERYWHERE constexpr uint64_t WeightWord(uint64_t key, uint64_t n) {
  return Mix(key + (n + 1) * kGoldenRatio);
}

// The sums of the even and of the odd 16-bit parts of `x`, in its two halves.
DELTASERVE_EVERYWHERE constexpr uint64_t AddParts(uint64_t x) {
  constexpr uint64_t kEven = 0x0000ffff0000ffffu;
  return (x & kEven) + ((x >> 16) & kEven);
}

// The sum of the twelve 16-bit parts of the element's words, less its mean, / 2^16: an integer of
// 20 bits (Irwin-Hall, standard deviation 1, at most 6 from the mean), so exact in f32.
DELTASERVE_EVERYWHERE constexpr float StandardNormal(uint64_t key, uint64_t element) {
  constexpr int32_t kSumMean = 12 * 65535 / 2;
  const uint64_t sums = AddParts(WeightWord(key, 3 * element)) +
                        AddParts(WeightWord(key, 3 * element + 1)) +
                        AddParts(WeightWord(key, 3 * element + 2));
  const auto sum = static_cast<int32_t>((sums & 0xffffffffu) + (sums >> 32));
  return static_cast<float>(sum - kSumMean) * 0x1p-16F;
}

}  // namespace deltaserve
