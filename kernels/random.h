#pragma once

// The random numbers of sampling: a counter-based generator keyed by what was asked for and nothing
// else, and Gumbel noise by arithmetic whose every operation is correctly rounded, so that all
// devices and machines draw the same bits. Kernels of a GPU call the functions too.

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

// In front of a function that nvcc shall compile for the GPU as well.
#ifdef __CUDACC__
#define DELTASERVE_EVERYWHERE __host__ __device__
#else
#define DELTASERVE_EVERYWHERE
#endif

namespace deltaserve {

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
DELTASERVE_EVERYWHERE constexpr std::array<uint32_t, 4> Philox(std::array<uint32_t, 4> counter,
                                                               uint64_t key) {
  auto key0 = static_cast<uint32_t>(key);
  auto key1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {
        static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key0, static_cast<uint32_t>(product1),
        static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key1, static_cast<uint32_t>(product0)};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// The random words of token ids 4 * group .. 4 * group + 3.
DELTASERVE_EVERYWHERE constexpr std::array<uint32_t, 4> TokenWords(uint64_t seed,
                                                                   uint32_t sample_index,
                                                                   uint32_t token_index,
                                                                   uint32_t group) {
  return Philox({group, token_index, sample_index, 0}, seed);
}

// Natural logarithm of a positive normal number; relative error below 1e-12. x = 2^e m with m in
// [sqrt 1/2, sqrt 2), log m = 2 atanh(s) with s = (m - 1) / (m + 1). Sums, products, a quotient and
// fused multiply-adds only: the same bits everywhere.
DELTASERVE_EVERYWHERE inline double PortableLog(double x) {
  constexpr uint64_t kSqrtHalf = 0x3FE6A09E00000000u;
  const auto bits = std::bit_cast<uint64_t>(x);
  const auto exponent = static_cast<int64_t>(bits - kSqrtHalf) >> 52;
  const auto mantissa = std::bit_cast<double>(bits - (static_cast<uint64_t>(exponent) << 52));
  const double f = mantissa - 1.0;
  const double s = f / (f + 2.0);
  const double z = s * s;
  double p = 2.0 / 17.0;
  p = std::fma(p, z, 2.0 / 15.0);
  p = std::fma(p, z, 2.0 / 13.0);
  p = std::fma(p, z, 2.0 / 11.0);
  p = std::fma(p, z, 2.0 / 9.0);
  p = std::fma(p, z, 2.0 / 7.0);
  p = std::fma(p, z, 2.0 / 5.0);
  p = std::fma(p, z, 2.0 / 3.0);
  const double log_mantissa = std::fma(s * z, p, 2.0 * s);
  return std::fma(static_cast<double>(exponent), 0.6931471805599453, log_mantissa);
}

// -log(-log u), u = (word + 1/2) / 2^32.
DELTASERVE_EVERYWHERE inline float GumbelOfWord(uint32_t word) {
  const double u = (static_cast<double>(word) + 0.5) * 0x1p-32;
  return static_cast<float>(-PortableLog(-PortableLog(u)));
}

// The noise of one token id.
DELTASERVE_EVERYWHERE inline float Gumbel(uint64_t seed,
                                          uint32_t sample_index,
                                          uint32_t token_index,
                                          uint32_t id) {
  return GumbelOfWord(TokenWords(seed, sample_index, token_index, id / 4)[id % 4]);
}

}  // namespace deltaserve
