#include <algorithm>

#include "kernels/cpu/delta_rule.h"
#include "kernels/cpu/depth_major.h"

namespace deltaserve::cpu {
namespace {

constexpr int64_t kChunk = kBlockTokens;
static_assert(kChunk % kStrip == 0);

// One chunk's matrices in scratch, each row-major without gaps. Those with a row for each key j are
// left operands; lanes are the rows i that see it. What lies where i < j is never read.
struct Matrices {
  float* k_transposed;  // [dk, chunk]
  float* q_transposed;  // [dk, chunk]
  float* kk;            // [chunk j, chunk i], k_i . k_j
  float* qk;            // [chunk j, chunk i], q_i . k_j
  float* minus_n;       // [chunk j, chunk i], -beta_i (k_i . k_j) D_ij
  float* attention;     // [chunk j, chunk i], (q_i . k_j) D_ij
  float* values;        // [chunk, strip], V'
  float* state;         // [dk, strip]
};

Matrices Carve(float* scratch, int64_t dk) {
  Matrices m{};
  m.k_transposed = scratch;
  m.q_transposed = m.k_transposed + kChunk * dk;
  m.kk = m.q_transposed + kChunk * dk;
  m.qk = m.kk + kChunk * kChunk;
  m.minus_n = m.qk + kChunk * kChunk;
  m.attention = m.minus_n + kChunk * kChunk;
  m.values = m.attention + kChunk * kChunk;
  m.state = m.values + kChunk * kStrip;
  return m;
}

// Of one value head.
struct Decays {
  alignas(64) double sum[kChunk];     // G: sums of g. Double, because differences of G are used and
                                      // a head that forgets at once makes G large.
  alignas(64) float so_far[kChunk];   // exp(G)
  alignas(64) float to_last[kChunk];  // exp(G of the last row - G)
};

void SumDecays(const DeltaRows& rows, Decays& decays) {
  double sum = 0;
  std::fill_n(decays.sum, kChunk, 0.0);
  std::fill_n(decays.so_far, kChunk, 0.0f);
  std::fill_n(decays.to_last, kChunk, 0.0f);
  for (int64_t i = 0; i < rows.count; ++i) {
    sum += static_cast<double>(rows.log_decay[i]);
    decays.sum[i] = sum;
  }
  for (int64_t i = 0; i < rows.count; ++i) {
    decays.so_far[i] = static_cast<float>(decays.sum[i]);
    decays.to_last[i] = static_cast<float>(sum - decays.sum[i]);
  }
  for (int64_t i = 0; i < rows.count; i += kLanes) {
    Store(decays.so_far + i, Exp(Load(decays.so_far + i)));
    Store(decays.to_last + i, Exp(Load(decays.to_last + i)));
  }
}

// minus_n and attention: no exponent of a lane that is read is positive.
void Decay(const DeltaRows& rows, const Decays& decays, const Matrices& m) {
  for (int64_t j = 0; j < rows.count; ++j) {
    const F64 first = Set1(decays.sum[j]);
    for (int64_t i = j / kLanes * kLanes; i < rows.count; i += kLanes) {
      const F64 low = Sub(Load(decays.sum + i), first);
      const F64 high = Sub(Load(decays.sum + i + kLanes / 2), first);
      const F32 d = Exp(Min(Narrow(low, high), Zero()));
      const int64_t at = j * kChunk + i;
      const F32 minus_beta = Negate(Load(rows.beta + i));
      Store(m.minus_n + at, Mul(Mul(minus_beta, Load(m.kk + at)), d));
      Store(m.attention + at, Mul(Load(m.qk + at), d));
    }
  }
}

// [from, to) of the columns c, c + 1, ... as a strip, zeros past the last one.
void LoadStrip(const float* from, int64_t stride, int64_t num_rows, int64_t left, float* strip) {
  const int64_t low = std::min(left, kLanes);
  const int64_t high = std::clamp<int64_t>(left - kLanes, 0, kLanes);
  for (int64_t r = 0; r < num_rows; ++r) {
    Store(strip + r * kStrip, LoadFirst(from + r * stride, low));
    Store(strip + r * kStrip + kLanes, LoadFirst(from + r * stride + kLanes, high));
  }
}

void StoreStrip(const float* strip, int64_t stride, int64_t num_rows, int64_t left, float* to) {
  const int64_t low = std::min(left, kLanes);
  const int64_t high = std::clamp<int64_t>(left - kLanes, 0, kLanes);
  for (int64_t r = 0; r < num_rows; ++r) {
    StoreFirst(to + r * stride, Load(strip + r * kStrip), low);
    StoreFirst(to + r * stride + kLanes, Load(strip + r * kStrip + kLanes), high);
  }
}

// Row i times factors[i].
void ScaleRows(const float* factors, int64_t num_rows, Strip x) {
  for (int64_t i = 0; i < num_rows; ++i) {
    const F32 factor = Set1(factors[i]);
    float* row = x.Row(i);
    Store(row, Mul(factor, Load(row)));
    Store(row + kLanes, Mul(factor, Load(row + kLanes)));
  }
}

// values = beta (V - exp(G) values)
void Residuals(const DeltaRows& rows, const Decays& decays, const float* v, float* values) {
  for (int64_t i = 0; i < rows.count; ++i) {
    const F32 decay = Set1(decays.so_far[i]);
    const F32 beta = Set1(rows.beta[i]);
    for (int64_t c = 0; c < kStrip; c += kLanes) {
      float* to = values + i * kStrip + c;
      const F32 rest = Fnma(decay, Load(to), Load(v + i * rows.value_stride + c));
      Store(to, Mul(beta, rest));
    }
  }
}

// Columns [c, c + kStrip) of out and state.
void RunStrip(
    const DeltaRows& rows, const Decays& decays, const Matrices& m, int64_t c, float* state) {
  const int64_t n = rows.count;
  const int64_t dk = rows.key_dim;
  const int64_t dv = rows.value_dim;
  const Strip values{m.values, kStrip};
  const ConstStrip new_values{m.values, kStrip};
  const ConstStrip old_state{m.state, kStrip};
  const Strip out{rows.out + c, rows.value_stride};
  LoadStrip(state + c, dv, dk, dv - c, m.state);
  // V' of (I + N) V' = beta (V - exp(G) K S)
  Multiply({m.k_transposed, kChunk}, n, old_state, dk, values);
  Residuals(rows, decays, rows.v + c, m.values);
  SolveLowerTriangle({m.minus_n, kChunk}, n, values);
  // out = exp(G) Q S + attention V'
  Multiply({m.q_transposed, kChunk}, n, old_state, dk, out);
  ScaleRows(decays.so_far, n, out);
  AddLowerTriangle({m.attention, kChunk}, n, new_values, out);
  // S = exp(G_last) S + K^T (exp(G_last - G) V')
  ScaleRows(decays.to_last, n, values);
  MultiplyAdd({rows.k, dk}, dk, new_values, n, decays.so_far[n - 1], {m.state, kStrip});
  StoreStrip(m.state, dv, dk, dv - c, state + c);
}

}  // namespace

int64_t PaddedValueDim(int64_t value_dim) { return (value_dim + kStrip - 1) / kStrip * kStrip; }

int64_t DeltaChunkScratch(int64_t key_dim) {
  return 2 * kChunk * key_dim + 4 * kChunk * kChunk + (kChunk + key_dim) * kStrip;
}

void PrepareDeltaChunk(const DeltaRows& rows, float* scratch) {
  const int64_t n = rows.count;
  const int64_t dk = rows.key_dim;
  DS_CHECK(n >= 1 && n <= kChunk) << n;
  const Matrices m = Carve(scratch, dk);
  Transpose(rows.k, dk, n, dk, m.k_transposed, kChunk);
  Transpose(rows.q, dk, n, dk, m.q_transposed, kChunk);
  for (int64_t i = 0; i < n; i += kStrip) {
    const DepthMajor keys{m.k_transposed, kChunk};
    const int64_t num_keys = std::min(n, i + kStrip);  // that rows [i, i + kStrip) see
    Multiply(keys, num_keys, {m.k_transposed + i, kChunk}, dk, {m.kk + i, kChunk});
    Multiply(keys, num_keys, {m.q_transposed + i, kChunk}, dk, {m.qk + i, kChunk});
  }
}

void DeltaChunk(const DeltaRows& rows, float* scratch, float* state) {
  const Matrices m = Carve(scratch, rows.key_dim);
  Decays decays;
  SumDecays(rows, decays);
  Decay(rows, decays, m);
  for (int64_t c = 0; c < rows.value_dim; c += kStrip) RunStrip(rows, decays, m, c, state);
}

}  // namespace deltaserve::cpu
