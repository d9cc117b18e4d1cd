#include <cpuid.h>
#include <immintrin.h>

#include "tools/bench/limit_loops.h"

namespace deltaserve::bench {
namespace {

// As many as hide the latency of the instruction on two units, within 16 registers. The
// instructions are written out: a compiler folds equal chains into one and moves sums about.
constexpr int64_t kChains = 12;
constexpr size_t kPage = 4096;
constexpr int kStreams = static_cast<int>(kReadBlock / kPage);

#define DS_TARGET(isa) __attribute__((target(isa)))
#define DS_UNROLL _Pragma("GCC unroll 16")

DS_TARGET("avx512f") float Fma512(int64_t rounds) {
  __m512 sum[kChains];
  const __m512 a = _mm512_set1_ps(0.5F);
  DS_UNROLL for (auto& s : sum) s = a;
  for (int64_t i = 0; i < rounds; ++i) {
    DS_UNROLL for (auto& s : sum) asm volatile("vfmadd213ps %1, %1, %0" : "+v"(s) : "v"(a));
  }
  float lanes[16];
  DS_UNROLL for (int j = 1; j < kChains; ++j) sum[0] = _mm512_add_ps(sum[0], sum[j]);
  _mm512_storeu_ps(lanes, sum[0]);
  return lanes[0] + lanes[15];
}

DS_TARGET("avx2,fma") float Fma256(int64_t rounds) {
  __m256 sum[kChains];
  const __m256 a = _mm256_set1_ps(0.5F);
  DS_UNROLL for (auto& s : sum) s = a;
  for (int64_t i = 0; i < rounds; ++i) {
    DS_UNROLL for (auto& s : sum) asm volatile("vfmadd213ps %1, %1, %0" : "+x"(s) : "x"(a));
  }
  DS_UNROLL for (int j = 1; j < kChains; ++j) sum[0] = _mm256_add_ps(sum[0], sum[j]);
  return _mm256_cvtss_f32(sum[0]);
}

DS_TARGET("avx512f") float DotBytes512(int64_t rounds) {
  __m512i sum[kChains];
  const __m512i a = _mm512_set1_epi8(1);
  DS_UNROLL for (auto& s : sum) s = a;
  for (int64_t i = 0; i < rounds; ++i) {
    DS_UNROLL for (auto& s : sum) asm volatile("vpdpbusd %1, %1, %0" : "+v"(s) : "v"(a));
  }
  int32_t lanes[16];
  DS_UNROLL for (int j = 1; j < kChains; ++j) sum[0] = _mm512_add_epi32(sum[0], sum[j]);
  _mm512_storeu_si512(lanes, sum[0]);
  return static_cast<float>(lanes[0]) + static_cast<float>(lanes[15]);
}

DS_TARGET("avx2") float DotBytes256(int64_t rounds) {
  __m256i sum[kChains];
  const __m256i a = _mm256_set1_epi8(1);
  DS_UNROLL for (auto& s : sum) s = a;
  for (int64_t i = 0; i < rounds; ++i) {
    DS_UNROLL for (auto& s : sum) asm volatile("%{vex%} vpdpbusd %1, %1, %0" : "+x"(s) : "x"(a));
  }
  DS_UNROLL for (int j = 1; j < kChains; ++j) sum[0] = _mm256_add_epi32(sum[0], sum[j]);
  return static_cast<float>(_mm256_extract_epi32(sum[0], 0));
}

// What a processor without dot products of bytes needs for one: products of neighbours added in 16
// bits, those in 32, and the sum.
DS_TARGET("avx2") float MultiplyBytes256(int64_t rounds) {
  __m256i sum[kChains];
  const __m256i a = _mm256_set1_epi8(1);
  const __m256i ones = _mm256_set1_epi16(1);
  DS_UNROLL for (auto& s : sum) s = a;
  for (int64_t i = 0; i < rounds; ++i) {
    DS_UNROLL for (auto& s : sum) {
      __m256i product;
      asm volatile("vpmaddubsw %1, %1, %0" : "=x"(product) : "x"(a));
      s = _mm256_add_epi32(s, _mm256_madd_epi16(product, ones));
    }
  }
  DS_UNROLL for (int j = 1; j < kChains; ++j) sum[0] = _mm256_add_epi32(sum[0], sum[j]);
  return static_cast<float>(_mm256_extract_epi32(sum[0], 0));
}

uint64_t Fold(const uint64_t* lanes, int count) {
  uint64_t all = 0;
  for (int i = 0; i < count; ++i) all ^= lanes[i];
  return all;
}

DS_TARGET("avx512f") uint64_t Read512(const uint8_t* data, size_t bytes) {
  __m512i sum[kStreams];
  DS_UNROLL for (auto& s : sum) s = _mm512_setzero_si512();
  for (size_t block = 0; block < bytes; block += kReadBlock) {
    for (size_t i = 0; i < kPage; i += 64) {
      DS_UNROLL for (int j = 0; j < kStreams; ++j) {
        const uint8_t* from = data + block + i + kPage * static_cast<size_t>(j);
        sum[j] = _mm512_xor_si512(sum[j], _mm512_load_si512(from));
      }
    }
  }
  DS_UNROLL for (int j = 1; j < kStreams; ++j) sum[0] = _mm512_xor_si512(sum[0], sum[j]);
  uint64_t lanes[8];
  _mm512_storeu_si512(lanes, sum[0]);
  return Fold(lanes, 8);
}

DS_TARGET("avx2") uint64_t Read256(const uint8_t* data, size_t bytes) {
  __m256i sum[kStreams];
  DS_UNROLL for (auto& s : sum) s = _mm256_setzero_si256();
  for (size_t block = 0; block < bytes; block += kReadBlock) {
    for (size_t i = 0; i < kPage; i += 64) {
      DS_UNROLL for (int j = 0; j < kStreams; ++j) {
        const uint8_t* from = data + block + i + kPage * static_cast<size_t>(j);
        const auto* line = reinterpret_cast<const __m256i*>(from);
        sum[j] = _mm256_xor_si256(
            sum[j], _mm256_xor_si256(_mm256_load_si256(line), _mm256_load_si256(line + 1)));
      }
    }
  }
  DS_UNROLL for (int j = 1; j < kStreams; ++j) sum[0] = _mm256_xor_si256(sum[0], sum[j]);
  uint64_t lanes[4];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), sum[0]);
  return Fold(lanes, 4);
}

bool HasAvx512() { return __builtin_cpu_supports("avx512f") != 0; }

// Not every compiler's __builtin_cpu_supports knows it.
bool HasAvxVnni() {
  unsigned int a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & (1U << 4)) != 0;
}

}  // namespace

RateLoop FmaLoop() {
  if (HasAvx512()) {
    return {.name = "vfmadd, 512 bits", .operations = int64_t{2} * 16 * kChains, .run = &Fma512};
  }
  return {.name = "vfmadd, 256 bits", .operations = int64_t{2} * 8 * kChains, .run = &Fma256};
}

RateLoop Int8Loop() {
  if (HasAvx512() && __builtin_cpu_supports("avx512vnni") != 0) {
    return {
        .name = "vpdpbusd, 512 bits", .operations = int64_t{2} * 64 * kChains, .run = &DotBytes512};
  }
  if (HasAvxVnni()) {
    return {
        .name = "vpdpbusd, 256 bits", .operations = int64_t{2} * 32 * kChains, .run = &DotBytes256};
  }
  return {.name = "vpmaddubsw + vpmaddwd, 256 bits",
          .operations = int64_t{2} * 32 * kChains,
          .run = &MultiplyBytes256};
}

uint64_t ReadAll(const uint8_t* data, size_t bytes) {
  return HasAvx512() ? Read512(data, bytes) : Read256(data, bytes);
}

}  // namespace deltaserve::bench
