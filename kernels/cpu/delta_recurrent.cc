#include "kernels/cpu/delta_rule.h"
#include "kernels/cpu/simd.h"

namespace deltaserve::cpu {
namespace {

constexpr int kVectors = 4;
constexpr int64_t kColumns = kVectors * kLanes;

struct Token {
  const float* q;
  const float* k;
  const float* v;
  float decay;
  float beta;
  int64_t key_dim;
  int64_t value_dim;
};

// Columns [c, c + kColumns) of the state, which no other column touches.
template <bool kTail>
void Advance(const Token& token, int64_t c, float* state, float* out) {
  const auto left = [&](int j) { return token.value_dim - c - j * kLanes; };
  const auto load = [&](const float* p, int j) {
    return kTail ? LoadFirst(p + j * kLanes, left(j)) : Load(p + j * kLanes);
  };
  const auto store = [&](float* p, int j, F32 x) {
    if (!kTail) {
      Store(p + j * kLanes, x);
    } else if (left(j) > 0) {
      StoreFirst(p + j * kLanes, x, left(j));
    }
  };
  const F32 decay = Set1(token.decay);
  F32 sum[kVectors];
#pragma GCC unroll 4
  for (int j = 0; j < kVectors; ++j) sum[j] = Zero();
  const float* s = state + c;
  for (int64_t i = 0; i < token.key_dim; ++i, s += token.value_dim) {
    const F32 k = Set1(token.k[i]);
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      sum[j] = Fma(k, Mul(decay, load(s, j)), sum[j]);
    }
  }
  F32 delta[kVectors];
#pragma GCC unroll 4
  for (int j = 0; j < kVectors; ++j) {
    delta[j] = Mul(Set1(token.beta), Sub(load(token.v + c, j), sum[j]));
    sum[j] = Zero();
  }
  float* to = state + c;
  for (int64_t i = 0; i < token.key_dim; ++i, to += token.value_dim) {
    const F32 k = Set1(token.k[i]);
    const F32 q = Set1(token.q[i]);
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      const F32 next = Fma(k, delta[j], Mul(decay, load(to, j)));
      store(to, j, next);
      sum[j] = Fma(q, next, sum[j]);
    }
  }
#pragma GCC unroll 4
  for (int j = 0; j < kVectors; ++j) store(out + c, j, sum[j]);
}

}  // namespace

void DeltaRecurrent(const DeltaRows& rows, int64_t row, float* state) {
  const Token token{.q = rows.q + row * rows.qkv_stride,
                    .k = rows.k + row * rows.qkv_stride,
                    .v = rows.v + row * rows.qkv_stride,
                    .decay = Exp(rows.decay[row * rows.gate_stride]),
                    .beta = rows.beta[row * rows.gate_stride],
                    .key_dim = rows.key_dim,
                    .value_dim = rows.value_dim};
  float* out = rows.out + row * rows.out_stride;
  int64_t c = 0;
  for (; c + kColumns <= token.value_dim; c += kColumns) Advance<false>(token, c, state, out);
  if (c < token.value_dim) Advance<true>(token, c, state, out);
}

}  // namespace deltaserve::cpu
