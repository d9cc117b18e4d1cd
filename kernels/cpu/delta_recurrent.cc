#include <algorithm>

#include "kernels/cpu/delta_rule.h"
#include "kernels/cpu/simd.h"

namespace deltaserve::cpu {
namespace {

constexpr int kVectors = kRegisters == 32 ? 8 : 4;
constexpr int64_t kColumns = kVectors * kLanes;
constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(float));  // f32 of a cache line

struct Token {
  const float* q;
  const float* k;
  const float* v;
  float decay;
  float beta;
  int64_t key_dim;
  int64_t value_dim;
};

// Columns [c, c + kColumns) of the state, which no other column touches. The first pass over them
// asks for half of the next state's, the second for the rest, so that memory is never idle.
template <bool kTail>
void Advance(const Token& token, int64_t c, float* state, const float* next_state, float* out) {
  const auto left = [&](int j) { return std::max<int64_t>(0, token.value_dim - c - j * kLanes); };
  const auto load = [&](const float* p, int j) {
    return kTail ? LoadFirst(p + j * kLanes, left(j)) : Load(p + j * kLanes);
  };
  const auto store = [&](float* p, int j, F32 x) {
    if (kTail) {
      StoreFirst(p + j * kLanes, x, left(j));
    } else {
      Store(p + j * kLanes, x);
    }
  };
  F32 sum[kVectors];
#pragma GCC unroll 8
  for (int j = 0; j < kVectors; ++j) sum[j] = Zero();
  const float* next = next_state + c;
  const float* s = state + c;
  for (int64_t i = 0; i < token.key_dim; ++i, s += token.value_dim, next += token.value_dim) {
    for (int64_t line = 0; line < kColumns / 2; line += kLine) __builtin_prefetch(next + line);
    const F32 k = Set1(token.k[i]);
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) sum[j] = Fma(k, load(s, j), sum[j]);
  }
  const F32 decay = Set1(token.decay);
  F32 delta[kVectors];
#pragma GCC unroll 8
  for (int j = 0; j < kVectors; ++j) {
    delta[j] = Mul(Set1(token.beta), Fnma(decay, sum[j], load(token.v + c, j)));
    sum[j] = Zero();
  }
  next = next_state + c + kColumns / 2;
  float* to = state + c;
  for (int64_t i = 0; i < token.key_dim; ++i, to += token.value_dim, next += token.value_dim) {
    for (int64_t line = 0; line < kColumns / 2; line += kLine) __builtin_prefetch(next + line);
    const F32 k = Set1(token.k[i]);
    const F32 q = Set1(token.q[i]);
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) {
      const F32 advanced = Fma(k, delta[j], Mul(decay, load(to, j)));
      store(to, j, advanced);
      sum[j] = Fma(q, advanced, sum[j]);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < kVectors; ++j) store(out + c, j, sum[j]);
}

}  // namespace

void DeltaRecurrent(const DeltaRows& rows, float* state, const float* next_state) {
  for (int64_t i = 0; i < rows.count; ++i) {
    const Token token{.q = rows.q + i * rows.key_dim,
                      .k = rows.k + i * rows.key_dim,
                      .v = rows.v + i * rows.value_stride,
                      .decay = Exp(rows.log_decay[i]),
                      .beta = rows.beta[i],
                      .key_dim = rows.key_dim,
                      .value_dim = rows.value_dim};
    const float* next = i + 1 < rows.count ? state : next_state;
    float* out = rows.out + i * rows.value_stride;
    int64_t c = 0;
    for (; c + kColumns <= token.value_dim; c += kColumns) {
      Advance<false>(token, c, state, next, out);
    }
    if (c < token.value_dim) Advance<true>(token, c, state, next, out);
  }
}

}  // namespace deltaserve::cpu
