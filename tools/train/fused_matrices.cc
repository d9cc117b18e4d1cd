// Attention and the delta rule over whole short sequences, forward and backward: the other half of
// the CPU path of fused.py. Plain C functions on f32, one thread. Each head of each sequence is one
// small problem whose [t, t] matrices stay in the cache. Formulas are those of delta.py, with the
// whole sequence as one chunk, and of model.py.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int64_t kLanes = 16;
typedef float Lanes __attribute__((vector_size(64), aligned(4)));

int64_t RoundUp(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

// A matrix to read: element (i, j) at data[i * row + j * column].
struct View {
  const float* data;
  int64_t row;
  int64_t column;
};

View Rows(const float* data, int64_t width) { return {data, width, 1}; }
View Flipped(const float* data, int64_t width) { return {data, 1, width}; }

// kRows rows and 16 kVectors columns of c (+)= scale * a b, over k in [begin, end).
template <int kRows, int kVectors>
void Tile(View a,
          const float* b,
          int64_t b_row,
          float* c,
          int64_t c_row,
          int64_t begin,
          int64_t end,
          float scale,
          bool add) {
  Lanes sums[kRows][kVectors] = {};
  for (int64_t k = begin; k < end; ++k) {
    Lanes right[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      right[v] = *reinterpret_cast<const Lanes*>(b + k * b_row + v * kLanes);
    }
    for (int r = 0; r < kRows; ++r) {
      const float left = a.data[r * a.row + k * a.column];
      for (int v = 0; v < kVectors; ++v) sums[r][v] += right[v] * left;
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      Lanes* out = reinterpret_cast<Lanes*>(c + r * c_row + v * kLanes);
      *out = add ? *out + sums[r][v] * scale : sums[r][v] * scale;
    }
  }
}

template <int kRows>
void Strip(View a,
           const float* b,
           int64_t b_row,
           float* c,
           int64_t c_row,
           int64_t columns,
           int64_t begin,
           int64_t end,
           float scale,
           bool add) {
  int64_t j = 0;
  for (; j + 4 * kLanes <= columns; j += 4 * kLanes) {
    Tile<kRows, 4>(a, b + j, b_row, c + j, c_row, begin, end, scale, add);
  }
  for (; j < columns; j += kLanes)
    Tile<kRows, 1>(a, b + j, b_row, c + j, c_row, begin, end, scale, add);
}

// Which part of a is known to be zero, and which part of c is not wanted.
enum class Shape { kFull, kLower, kUpper, kLowerResult };

// c [m, columns] (+)= scale * a [m, n] b [n, columns]; columns is a multiple of 16.
// kLower: a[i][k] = 0 for k > i; kUpper: for k < i; kLowerResult: columns of c beyond its row are
// not wanted.
void Multiply(View a,
              const float* b,
              int64_t b_row,
              float* c,
              int64_t c_row,
              int64_t m,
              int64_t n,
              int64_t columns,
              Shape shape,
              float scale = 1.0f,
              bool add = false) {
  for (int64_t i = 0; i < m;) {
    const int64_t rows = m - i >= 4 ? 4 : 1;
    const int64_t begin = shape == Shape::kUpper ? i : 0;
    const int64_t end = shape == Shape::kLower ? std::min(n, i + rows) : n;
    const int64_t width =
        shape == Shape::kLowerResult ? std::min(columns, RoundUp(i + rows)) : columns;
    const View part = {a.data + i * a.row, a.row, a.column};
    if (rows == 4) {
      Strip<4>(part, b, b_row, c + i * c_row, c_row, width, begin, end, scale, add);
    } else {
      Strip<1>(part, b, b_row, c + i * c_row, c_row, width, begin, end, scale, add);
    }
    i += rows;
  }
}

// [t, dim] -> [dim, padded], zeros behind.
void Transpose(const float* in, int64_t t, int64_t dim, int64_t padded, float* out) {
  for (int64_t j = 0; j < dim; ++j) {
    for (int64_t i = 0; i < t; ++i) out[j * padded + i] = in[i * dim + j];
    for (int64_t i = t; i < padded; ++i) out[j * padded + i] = 0.0f;
  }
}

float Dot(const float* a, const float* b, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// between[i][j] = exp(G_i - G_j) for j <= i, else 0; G the inclusive sums of g.
void Decays(const float* g, int64_t t, int64_t padded, float* between) {
  std::vector<float> sums(t);
  float sum = 0;
  for (int64_t i = 0; i < t; ++i) sums[i] = sum += g[i];
  for (int64_t i = 0; i < t; ++i) {
    float* row = between + i * padded;
    for (int64_t j = 0; j <= i; ++j) row[j] = expf(sums[i] - sums[j]);
    for (int64_t j = i + 1; j < padded; ++j) row[j] = 0.0f;
  }
}

// Where row i of m is read below the diagonal alone: x_i = b_i - beta_i sum_{j < i} m_ij x_j, from
// b in x.
void SolveDown(
    const float* m, const float* beta, int64_t t, int64_t padded, int64_t dim, float* x) {
  for (int64_t i = 0; i < t; ++i) {
    Strip<1>(Rows(m + i * padded, padded), x, dim, x + i * dim, dim, dim, 0, i, -beta[i], true);
  }
}

// The transposed system: x_j = b_j - sum_{i > j} beta_i m_ij x_i, from b in x. scaled [t, padded] =
// beta_i m_ij.
void SolveUp(const float* scaled, int64_t t, int64_t padded, int64_t dim, float* x) {
  for (int64_t j = t - 1; j >= 0; --j) {
    Strip<1>(Flipped(scaled + j, padded), x, dim, x + j * dim, dim, dim, j + 1, t, -1.0f, true);
  }
}

}  // namespace

extern "C" {

// q (scaled), k, v [heads, t, dim], g, beta [heads, t] -> out, solved (the values that are written)
// [heads, t, dim]; `heads` counts those of all sequences.
void DeltaForward(const float* q,
                  const float* k,
                  const float* v,
                  const float* g,
                  const float* beta,
                  int64_t heads,
                  int64_t t,
                  int64_t dim,
                  float* out,
                  float* solved) {
  const int64_t padded = RoundUp(t), size = t * dim;
  std::vector<float> keys(dim * padded), between(t * padded), m(t * padded), a(t * padded);
  for (int64_t h = 0; h < heads; ++h) {
    const float* b = beta + h * t;
    float* x = solved + h * size;
    Decays(g + h * t, t, padded, between.data());
    Transpose(k + h * size, t, dim, padded, keys.data());
    Multiply(Rows(k + h * size, dim), keys.data(), padded, m.data(), padded, t, dim, padded,
             Shape::kFull);
    Multiply(Rows(q + h * size, dim), keys.data(), padded, a.data(), padded, t, dim, padded,
             Shape::kFull);
    for (int64_t i = 0; i < t * padded; ++i) {
      m[i] *= between[i];
      a[i] *= between[i];
    }
    for (int64_t i = 0; i < t; ++i) {
      for (int64_t c = 0; c < dim; ++c) x[i * dim + c] = b[i] * v[h * size + i * dim + c];
    }
    SolveDown(m.data(), b, t, padded, dim, x);
    Multiply(Rows(a.data(), padded), x, dim, out + h * size, dim, t, t, dim, Shape::kLower);
  }
}

// The gradients of DeltaForward's inputs from d_out, all in the shapes of what they belong to.
void DeltaBackward(const float* q,
                   const float* k,
                   const float* v,
                   const float* g,
                   const float* beta,
                   const float* solved,
                   const float* d_out,
                   int64_t heads,
                   int64_t t,
                   int64_t dim,
                   float* d_q,
                   float* d_k,
                   float* d_v,
                   float* d_g,
                   float* d_beta) {
  const int64_t padded = RoundUp(t), size = t * dim, square = t * padded;
  std::vector<float> keys(dim * padded), values(dim * padded), between(square), m(square),
      a(square), d_m(square), d_a(square), y(size), d_sums(t);
  for (int64_t h = 0; h < heads; ++h) {
    const float *b = beta + h * t, *keys_h = k + h * size, *x = solved + h * size,
                *d_o = d_out + h * size;
    Decays(g + h * t, t, padded, between.data());
    Transpose(keys_h, t, dim, padded, keys.data());
    Transpose(x, t, dim, padded, values.data());
    Multiply(Rows(keys_h, dim), keys.data(), padded, m.data(), padded, t, dim, padded,
             Shape::kFull);
    Multiply(Rows(q + h * size, dim), keys.data(), padded, a.data(), padded, t, dim, padded,
             Shape::kFull);
    for (int64_t i = 0; i < square; ++i) {
      m[i] *= between[i];
      a[i] *= between[i];
    }
    Multiply(Rows(d_o, dim), values.data(), padded, d_a.data(), padded, t, dim, padded,
             Shape::kFull);
    Multiply(Flipped(a.data(), padded), d_o, dim, y.data(), dim, t, t, dim, Shape::kUpper);
    for (int64_t i = 0; i < t; ++i) {
      for (int64_t j = 0; j < padded; ++j)
        d_m[i * padded + j] = j < i ? b[i] * m[i * padded + j] : 0.0f;
    }
    SolveUp(d_m.data(), t, padded, dim, y.data());
    Multiply(Rows(y.data(), dim), values.data(), padded, d_m.data(), padded, t, dim, padded,
             Shape::kFull, -1.0f);
    std::fill(d_sums.begin(), d_sums.end(), 0.0f);
    for (int64_t i = 0; i < t; ++i) {
      const int64_t at = i * padded;
      d_beta[h * t + i] =
          Dot(y.data() + i * dim, v + h * size + i * dim, dim) + Dot(&d_m[at], &m[at], i);
      for (int64_t c = 0; c < dim; ++c) d_v[h * size + i * dim + c] = b[i] * y[i * dim + c];
      float row = 0;
      for (int64_t j = 0; j <= i; ++j) {
        const float from_m = j < i ? b[i] * d_m[at + j] : 0.0f;
        const float change = from_m * m[at + j] + d_a[at + j] * a[at + j];
        row += change;
        d_sums[j] -= change;
        d_m[at + j] = from_m * between[at + j];
        d_a[at + j] *= between[at + j];
      }
      d_sums[i] += row;
      for (int64_t j = i + 1; j < padded; ++j) d_m[at + j] = d_a[at + j] = 0.0f;
    }
    float sum = 0;
    for (int64_t i = t - 1; i >= 0; --i) d_g[h * t + i] = sum += d_sums[i];
    float* d_keys = d_k + h * size;
    Multiply(Rows(d_a.data(), padded), keys_h, dim, d_q + h * size, dim, t, t, dim, Shape::kLower);
    Multiply(Flipped(d_a.data(), padded), q + h * size, dim, d_keys, dim, t, t, dim, Shape::kUpper);
    Multiply(Rows(d_m.data(), padded), keys_h, dim, d_keys, dim, t, t, dim, Shape::kLower, 1.0f,
             true);
    Multiply(Flipped(d_m.data(), padded), keys_h, dim, d_keys, dim, t, t, dim, Shape::kUpper, 1.0f,
             true);
  }
}

// Causal attention. q, out [batch, heads, t, dim], k, v [batch, kv_heads, t, dim]; weights [batch,
// heads, t, padded t].
void AttentionForward(const float* q,
                      const float* k,
                      const float* v,
                      int64_t batch,
                      int64_t heads,
                      int64_t kv_heads,
                      int64_t t,
                      int64_t dim,
                      float* out,
                      float* weights) {
  const int64_t padded = RoundUp(t), size = t * dim;
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
  std::vector<float> keys(dim * padded);
  for (int64_t h = 0; h < batch * heads; ++h) {
    const int64_t kv = h / heads * kv_heads + h % heads / (heads / kv_heads);
    float* p = weights + h * t * padded;
    Transpose(k + kv * size, t, dim, padded, keys.data());
    Multiply(Rows(q + h * size, dim), keys.data(), padded, p, padded, t, dim, padded,
             Shape::kLowerResult, scale);
    for (int64_t i = 0; i < t; ++i) {
      float* row = p + i * padded;
      const float most = *std::max_element(row, row + i + 1);
      float sum = 0;
      for (int64_t j = 0; j <= i; ++j) sum += row[j] = expf(row[j] - most);
      for (int64_t j = 0; j <= i; ++j) row[j] /= sum;
      for (int64_t j = i + 1; j < padded; ++j) row[j] = 0.0f;
    }
    Multiply(Rows(p, padded), v + kv * size, dim, out + h * size, dim, t, t, dim, Shape::kLower);
  }
}

// d_k and d_v are added to.
void AttentionBackward(const float* q,
                       const float* k,
                       const float* v,
                       const float* weights,
                       const float* d_out,
                       int64_t batch,
                       int64_t heads,
                       int64_t kv_heads,
                       int64_t t,
                       int64_t dim,
                       float* d_q,
                       float* d_k,
                       float* d_v) {
  const int64_t padded = RoundUp(t), size = t * dim;
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
  std::vector<float> values(dim * padded), d_p(t * padded);
  for (int64_t h = 0; h < batch * heads; ++h) {
    const int64_t kv = h / heads * kv_heads + h % heads / (heads / kv_heads);
    const float *p = weights + h * t * padded, *d_o = d_out + h * size;
    Transpose(v + kv * size, t, dim, padded, values.data());
    Multiply(Rows(d_o, dim), values.data(), padded, d_p.data(), padded, t, dim, padded,
             Shape::kLowerResult);
    Multiply(Flipped(p, padded), d_o, dim, d_v + kv * size, dim, t, t, dim, Shape::kUpper, 1.0f,
             true);
    for (int64_t i = 0; i < t; ++i) {
      float* row = d_p.data() + i * padded;
      const float along = Dot(row, p + i * padded, i + 1);
      for (int64_t j = 0; j <= i; ++j) row[j] = (row[j] - along) * p[i * padded + j];
      for (int64_t j = i + 1; j < padded; ++j) row[j] = 0.0f;
    }
    Multiply(Rows(d_p.data(), padded), k + kv * size, dim, d_q + h * size, dim, t, t, dim,
             Shape::kLower, scale);
    Multiply(Flipped(d_p.data(), padded), q + h * size, dim, d_k + kv * size, dim, t, t, dim,
             Shape::kUpper, scale, true);
  }
}

}  // extern "C"
