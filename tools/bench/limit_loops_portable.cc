// For processors without a file of their own; compiled with fused multiply-adds allowed.

#include <cstring>

#include "tools/bench/limit_loops.h"

namespace deltaserve::bench {
namespace {

// Each begins with another value, or a compiler would see that all are one.
constexpr int64_t kChains = 12;
using Floats = float __attribute__((vector_size(16)));
using Shorts = uint16_t __attribute__((vector_size(16)));
using Words = uint64_t __attribute__((vector_size(16)));

float Fma(int64_t rounds) {
  Floats sum[kChains];
  for (int j = 0; j < kChains; ++j) sum[j] = Floats{} + static_cast<float>(j);
  const Floats a = Floats{} + 0.999F;
  const Floats b = Floats{} + 0.001F;
  for (int64_t i = 0; i < rounds; ++i) {
    for (auto& s : sum) s = s * a + b;
  }
  Floats all = {};
  for (const auto& s : sum) all += s;
  return all[0] + all[1] + all[2] + all[3];
}

// Without dot products of bytes: widened, multiplied and added up in 16 bits.
float MultiplyBytes(int64_t rounds) {
  Shorts sum[kChains];
  for (int j = 0; j < kChains; ++j) sum[j] = Shorts{} + static_cast<uint16_t>(j);
  const Shorts a = Shorts{} + uint16_t{3};
  const Shorts b = Shorts{} + uint16_t{1};
  for (int64_t i = 0; i < rounds; ++i) {
    for (auto& s : sum) s = s * a + b;
  }
  Shorts all = {};
  for (const auto& s : sum) all += s;
  return static_cast<float>(all[0]);
}

}  // namespace

RateLoop FmaLoop() {
  return {.name = "vectors of 128 bits", .operations = int64_t{2} * 4 * kChains, .run = &Fma};
}

RateLoop Int8Loop() {
  return {.name = "16-bit vectors of 128 bits",
          .operations = int64_t{2} * 8 * kChains,
          .run = &MultiplyBytes};
}

uint64_t ReadAll(const uint8_t* data, size_t bytes) {
  Words sum[4] = {};
  for (size_t i = 0; i < bytes; i += sizeof(sum)) {
    Words line[4];
    std::memcpy(line, data + i, sizeof(line));
    for (int j = 0; j < 4; ++j) sum[j] ^= line[j];
  }
  const Words all = sum[0] ^ sum[1] ^ sum[2] ^ sum[3];
  return all[0] ^ all[1];
}

}  // namespace deltaserve::bench
