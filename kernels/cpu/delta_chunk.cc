#include <algorithm>

#include "kernels/cpu/delta_rule.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/strided_matmul.h"
#include "kernels/ops.h"

namespace deltaserve::cpu {
namespace {

constexpr int64_t kChunk = kBlockTokens;
constexpr int64_t kRowTile = 6;

// One chunk's matrices in scratch, each row-major without gaps.
struct Chunk {
  int64_t count;
  float* q;             // [chunk, dk]
  float* k;             // [chunk, dk]
  float* k_transposed;  // [dk, chunk]
  float* minus_n;       // [chunk, chunk], -beta_i (k_i . k_j) D_ij below the diagonal
  float* attention;     // [chunk, chunk], (q_i . k_j) D_ij up to the diagonal
  float* v;             // [chunk, dv], V'
  alignas(64) double log_decay[kChunk];  // G: sums of g. Double, because differences of G are used
                                         // and a head that forgets at once makes G large.
  alignas(64) float decay[kChunk];       // exp(G)
  alignas(64) float beta[kChunk];
};

void Gather(const DeltaRows& rows, int64_t begin, Chunk& chunk) {
  double sum = 0;
  std::fill_n(chunk.log_decay, kChunk, 0.0);
  for (int64_t i = 0; i < chunk.count; ++i) {
    const float* q = rows.q + (begin + i) * rows.qkv_stride;
    const float* k = rows.k + (begin + i) * rows.qkv_stride;
    std::copy_n(q, rows.key_dim, chunk.q + i * rows.key_dim);
    std::copy_n(k, rows.key_dim, chunk.k + i * rows.key_dim);
    for (int64_t d = 0; d < rows.key_dim; ++d) chunk.k_transposed[d * kChunk + i] = k[d];
    sum += static_cast<double>(rows.decay[(begin + i) * rows.gate_stride]);
    chunk.log_decay[i] = sum;
    chunk.decay[i] = Exp(static_cast<float>(sum));
    chunk.beta[i] = rows.beta[(begin + i) * rows.gate_stride];
  }
}

// minus_n and attention; only j <= i is computed, so no exponent is positive.
void Interactions(int64_t key_dim, Chunk& chunk) {
  for (int64_t i = 0; i < chunk.count; i += kRowTile) {
    const int64_t height = std::min(kRowTile, chunk.count - i);
    for (const bool keys : {true, false}) {
      MultiplyStrided({(keys ? chunk.k : chunk.q) + i * key_dim, key_dim, 1}, height,
                      chunk.k_transposed, kChunk, key_dim, i + height, Start::kZero,
                      (keys ? chunk.minus_n : chunk.attention) + i * kChunk, kChunk);
    }
  }
  for (int64_t i = 0; i < chunk.count; ++i) {
    const F64 last = Set1(chunk.log_decay[i]);
    const F32 minus_beta = Set1(-chunk.beta[i]);
    for (int64_t j = 0; j <= i; j += kLanes) {
      const F64 low = Sub(last, Load(chunk.log_decay + j));
      const F64 high = Sub(last, Load(chunk.log_decay + j + kLanes / 2));
      // Lanes past the diagonal are masked before exp and never read.
      const F32 exponent = Min(Narrow(low, high), Zero());
      const F32 d = Exp(exponent);
      float* n = chunk.minus_n + i * kChunk + j;
      float* a = chunk.attention + i * kChunk + j;
      Store(n, Mul(Mul(minus_beta, Load(n)), d));
      Store(a, Mul(Load(a), d));
    }
  }
}

// V' of (I + N) V' = beta (V - exp(G) K S).
void SolveValues(const DeltaRows& rows, int64_t begin, const float* state, Chunk& chunk) {
  const int64_t dv = rows.value_dim;
  MultiplyStrided({chunk.k, rows.key_dim, 1}, chunk.count, state, dv, rows.key_dim, dv,
                  Start::kZero, chunk.v, dv);
  for (int64_t i = 0; i < chunk.count; ++i) {
    const F32 decay = Set1(chunk.decay[i]);
    const F32 beta = Set1(chunk.beta[i]);
    const float* v = rows.v + (begin + i) * rows.qkv_stride;
    float* to = chunk.v + i * dv;
    for (int64_t c = 0; c < dv; c += kLanes) {
      const F32 rest = Fnma(decay, LoadFirst(to + c, dv - c), LoadFirst(v + c, dv - c));
      StoreFirst(to + c, Mul(beta, rest), dv - c);
    }
  }
  MultiplyLowerTriangle({chunk.minus_n, kChunk, 1}, chunk.count, 0, chunk.v, dv, dv, chunk.v, dv);
}

void ScaleRow(float* x, float factor, int64_t n) {
  const F32 scale = Set1(factor);
  for (int64_t c = 0; c < n; c += kLanes) {
    StoreFirst(x + c, Mul(scale, LoadFirst(x + c, n - c)), n - c);
  }
}

}  // namespace

int64_t DeltaChunkScratch(int64_t key_dim, int64_t value_dim) {
  return 3 * kChunk * key_dim + 2 * kChunk * kChunk + kChunk * value_dim;
}

void DeltaChunk(const DeltaRows& rows, int64_t begin, int64_t count, float* state, float* scratch) {
  const int64_t dk = rows.key_dim;
  const int64_t dv = rows.value_dim;
  DS_CHECK(count >= 1 && count <= kChunk) << count;
  Chunk chunk{};
  chunk.count = count;
  chunk.q = scratch;
  chunk.k = chunk.q + kChunk * dk;
  chunk.k_transposed = chunk.k + kChunk * dk;
  chunk.minus_n = chunk.k_transposed + kChunk * dk;
  chunk.attention = chunk.minus_n + kChunk * kChunk;
  chunk.v = chunk.attention + kChunk * kChunk;
  Gather(rows, begin, chunk);
  Interactions(dk, chunk);
  SolveValues(rows, begin, state, chunk);
  float* out = rows.out + begin * rows.out_stride;
  MultiplyStrided({chunk.q, dk, 1}, count, state, dv, dk, dv, Start::kZero, out, rows.out_stride);
  for (int64_t i = 0; i < count; ++i) ScaleRow(out + i * rows.out_stride, chunk.decay[i], dv);
  MultiplyLowerTriangle({chunk.attention, kChunk, 1}, count, 1, chunk.v, dv, dv, out,
                        rows.out_stride);
  const double last = chunk.log_decay[count - 1];
  for (int64_t i = 0; i < count; ++i) {
    ScaleRow(chunk.v + i * dv, Exp(static_cast<float>(last - chunk.log_decay[i])), dv);
  }
  for (int64_t d = 0; d < dk; ++d) ScaleRow(state + d * dv, chunk.decay[count - 1], dv);
  MultiplyStrided({chunk.k, 1, dk}, dk, chunk.v, dv, count, dv, Start::kOutput, state, dv);
}

}  // namespace deltaserve::cpu
