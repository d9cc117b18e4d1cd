#include "kernels/cpu/attention_products.h"

#include <algorithm>
#include <array>
#include <utility>

namespace deltaserve::cpu {
namespace {

constexpr int64_t kPassVectors = 3;   // vectors of queries that are scored at once
constexpr int64_t kDepthBlock = 128;  // of head_dim, for which a pass of queries stays near
constexpr int64_t kLine = 16;         // f32 of a cache line
constexpr int64_t kTileQueries = kRegisters == 32 ? 12 : 6;  // of a register tile of values
constexpr int64_t kFewKeys = 16;  // positions whose values one tile of queries reads in one go

// Keys of a register tile.
constexpr int KeysOf(int vectors) {
  const int keys = vectors == 1 ? 16 : 8;
  return kRegisters == 32 ? keys : keys / 2;
}

// scores[t][v] (+)= the chain over `depth` of queries [depth][kVectors vectors] and kKeys keys.
template <int kVectors>
void ScoreTile(const float* q,
               const float* k,
               int64_t head_dim,
               int64_t depth,
               bool first,
               const float* next,
               float* scores,
               int64_t stride) {
  constexpr int kKeys = KeysOf(kVectors);
  F32 sum[kKeys][kVectors];
#pragma GCC unroll 16
  for (int t = 0; t < kKeys; ++t) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sum[t][v] = first ? Zero() : Load(scores + t * stride + v * kLanes);
    }
  }
  for (int64_t line = 0; line < depth; line += kLine) {
#pragma GCC unroll 16
    for (int t = 0; t < kKeys; ++t) __builtin_prefetch(next + t * head_dim + line);
    const int64_t end = std::min(depth, line + kLine);
    for (int64_t d = line; d < end; ++d, q += kVectors * kLanes) {
      F32 x[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) x[v] = Load(q + v * kLanes);
#pragma GCC unroll 16
      for (int t = 0; t < kKeys; ++t) {
        const F32 key = Set1(k[t * head_dim + d]);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sum[t][v] = Fma(key, x[v], sum[t][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int t = 0; t < kKeys; ++t) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) Store(scores + t * stride + v * kLanes, sum[t][v]);
  }
}

template <int kVectors>
void ScorePass(const float* q,
               const float* k,
               int64_t count,
               int64_t head_dim,
               const float* next,
               float* scores,
               int64_t stride) {
  constexpr int64_t kKeys = KeysOf(kVectors);
  const int64_t block = kVectors == 1 ? head_dim : kDepthBlock;
  for (int64_t d = 0; d < head_dim; d += block) {
    const int64_t depth = std::min(block, head_dim - d);
    for (int64_t t = 0; t < count; t += kKeys) {
      const float* ahead = t + kKeys < count ? k + (t + kKeys) * head_dim : next;
      ScoreTile<kVectors>(q + d * kVectors * kLanes, k + t * head_dim + d, head_dim, depth, d == 0,
                          ahead + d, scores + t * stride, stride);
    }
  }
}

// The same scores for few queries: vectors of keys instead, turned as they are read, and no lane
// idle. q: [head_dim][kQueries]; head_dim is a multiple of kLanes.
template <int kQueries>
void ScoreFew(const float* q,
              const float* k,
              int64_t count,
              int64_t head_dim,
              const float* next,
              float* scores,
              int64_t stride) {
  for (int64_t t = 0; t < count; t += kLanes) {
    const float* keys = k + t * head_dim;
    const float* ahead = t + kLanes < count ? keys + kLanes * head_dim : next;
    F32 sum[kQueries];
#pragma GCC unroll 8
    for (int m = 0; m < kQueries; ++m) sum[m] = Zero();
    for (int64_t d = 0; d < head_dim; d += kLanes) {
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) __builtin_prefetch(ahead + (d + i) * kLanes);
      F32 x[kLanes];
      LoadTransposed(keys + d, head_dim, x);
#pragma GCC unroll 16
      for (int j = 0; j < kLanes; ++j) {
        const float* query = q + (d + j) * kQueries;
#pragma GCC unroll 8
        for (int m = 0; m < kQueries; ++m) sum[m] = Fma(x[j], Set1(query[m]), sum[m]);
      }
    }
    for (int m = 0; m < kQueries; ++m) {
      float lanes[kLanes];
      Store(lanes, sum[m]);
      for (int64_t i = 0; i < kLanes; ++i) scores[(t + i) * stride + m] = lanes[i];
    }
  }
}

using ScoreFunction =
    void (*)(const float*, const float*, int64_t, int64_t, const float*, float*, int64_t);

template <int... kMinusOne>
constexpr std::array<ScoreFunction, sizeof...(kMinusOne)> ScoreFunctions(
    std::integer_sequence<int, kMinusOne...>) {
  return {ScoreFew<kMinusOne + 1>...};
}

constexpr int kFewQueries = kLanes / 2;  // more fill the lanes as well
constexpr auto kScoreFunctions = ScoreFunctions(std::make_integer_sequence<int, kFewQueries>());

bool AreFew(int64_t num_queries, int64_t head_dim) {
  return num_queries <= kFewQueries && head_dim % kLanes == 0;
}

// What one call of ValueTile reads and writes.
struct Values {
  const float* p;
  int64_t p_stride;
  const float* v;
  int64_t count;
  int64_t head_dim;
  const float* next;
  float* out;
};

// kRows queries by kVectors vectors of the head from dimension d; with kTail, dimensions past
// head_dim are left alone.
template <int kRows, int kVectors, bool kTail>
inline void ValueTile(const Values& a, int64_t d) {
  const auto load = [&](const float* from) {
    return kTail ? LoadFirst(from, a.head_dim - d) : Load(from);
  };
  F32 sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      sum[r][i] = load(a.out + r * a.head_dim + d + i * kLanes);
    }
  }
  const float* p = a.p;
  const float* v = a.v + d;
  const float* next = a.next + d;
  for (int64_t t = 0; t < a.count; ++t) {
    F32 value[kVectors];
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      value[i] = load(v + i * kLanes);
      __builtin_prefetch(next + i * kLanes);
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const F32 weight = Set1(p[r]);
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) sum[r][i] = Fma(weight, value[i], sum[r][i]);
    }
    p += a.p_stride;
    v += a.head_dim;
    next += a.head_dim;
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      StoreFirst(a.out + r * a.head_dim + d + i * kLanes, sum[r][i],
                 kTail ? a.head_dim - d : kLanes);
    }
  }
}

template <int kRows>
void ValueRows(const Values& a) {
  constexpr int64_t kVectors = kRows <= kTileQueries / 2 ? 4 : 2;
  int64_t d = 0;
  for (; d + kVectors * kLanes <= a.head_dim; d += kVectors * kLanes) {
    ValueTile<kRows, kVectors, false>(a, d);
  }
  for (; d + kLanes <= a.head_dim; d += kLanes) ValueTile<kRows, 1, false>(a, d);
  if (d < a.head_dim) ValueTile<kRows, 1, true>(a, d);
}

using ValueFunction = void (*)(const Values&);

template <int... kMinusOne>
constexpr std::array<ValueFunction, sizeof...(kMinusOne)> ValueFunctions(
    std::integer_sequence<int, kMinusOne...>) {
  return {ValueRows<kMinusOne + 1>...};
}

constexpr auto kValueFunctions =
    ValueFunctions(std::make_integer_sequence<int, static_cast<int>(kTileQueries)>());

}  // namespace

void PackQueries(const float* q,
                 int64_t row_stride,
                 int64_t num_rows,
                 int64_t group,
                 int64_t head_dim,
                 float scale,
                 float* packed) {
  const int64_t queries = num_rows * group;
  const int64_t padded = AreFew(queries, head_dim) ? queries : PaddedQueries(queries);
  const F32 scales = Set1(scale);
  for (int64_t begin = 0; begin < padded; begin += kPassVectors * kLanes) {
    const int64_t width = std::min(kPassVectors * kLanes, padded - begin);
    float* pass = packed + begin * head_dim;
    for (int64_t i = 0; i < width; i += kLanes) {
      const int64_t lanes = std::min(kLanes, queries - begin - i);
      for (int64_t d = 0; d < head_dim; d += kLanes) {
        alignas(64) float turned[kLanes * kLanes] = {};
        for (int64_t j = 0; j < lanes; ++j) {
          const int64_t m = begin + i + j;
          const float* from = q + m / group * row_stride + m % group * head_dim + d;
          Store(turned + j * kLanes, Mul(LoadFirst(from, head_dim - d), scales));
        }
        F32 x[kLanes];
        LoadTransposed(turned, kLanes, x);
        for (int64_t j = 0; j < std::min(kLanes, head_dim - d); ++j) {
          StoreFirst(pass + (d + j) * width + i, x[j], width - i);
        }
      }
    }
  }
}

void ScoreKeys(const float* packed,
               int64_t num_queries,
               const float* k,
               int64_t count,
               int64_t head_dim,
               const float* next,
               float* scores) {
  const int64_t padded = PaddedQueries(num_queries);
  if (AreFew(num_queries, head_dim)) {
    kScoreFunctions[static_cast<size_t>(num_queries - 1)](packed, k, count, head_dim, next, scores,
                                                          padded);
    return;
  }
  for (int64_t m = 0; m < padded; m += kPassVectors * kLanes) {
    const float* q = packed + m * head_dim;
    const int64_t vectors = std::min(kPassVectors, (padded - m) / kLanes);
    if (vectors == 1) {
      ScorePass<1>(q, k, count, head_dim, next, scores + m, padded);
    } else if (vectors == 2) {
      ScorePass<2>(q, k, count, head_dim, next, scores + m, padded);
    } else {
      ScorePass<3>(q, k, count, head_dim, next, scores + m, padded);
    }
  }
}

void AddValues(const float* p,
               int64_t p_stride,
               int64_t num_queries,
               const float* v,
               int64_t count,
               int64_t head_dim,
               const float* next,
               float* out) {
  const int64_t tiles = (num_queries + kTileQueries - 1) / kTileQueries;
  const int64_t keys = tiles == 1 ? kFewKeys : count;
  for (int64_t t = 0; t < count; t += keys) {
    const float* ahead = t + keys < count ? v + (t + keys) * head_dim : next;
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t m = i * num_queries / tiles;
      const int64_t rows = (i + 1) * num_queries / tiles - m;
      kValueFunctions[static_cast<size_t>(rows - 1)]({p + t * p_stride + m, p_stride,
                                                      v + t * head_dim, std::min(keys, count - t),
                                                      head_dim, ahead, out + m * head_dim});
    }
  }
}

}  // namespace deltaserve::cpu
