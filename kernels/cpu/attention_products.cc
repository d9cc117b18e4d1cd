#include "kernels/cpu/attention_products.h"

#include <algorithm>
#include <array>
#include <utility>

#include "kernels/ops.h"

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

// What one call of ValueTile reads and writes.
struct Values {
  const float* p;
  int64_t p_stride;
  const float* v;
  int64_t v_stride;
  int64_t count;
  const float* next;
  float* out;
  int64_t out_stride;
  int64_t num_columns;
};

// kRows queries by kVectors vectors of columns; with kTail, the last of num_columns.
template <int kRows, int kVectors, bool kTail>
inline void ValueTile(const Values& a, int64_t column) {
  const auto load = [&](const float* from) {
    return kTail ? LoadFirst(from, a.num_columns - column) : Load(from);
  };
  F32 sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      sum[r][i] = load(a.out + r * a.out_stride + column + i * kLanes);
    }
  }
  const float* p = a.p;
  const float* v = a.v + column;
  const float* next = a.next + column;
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
    v += a.v_stride;
    next += a.v_stride;
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      StoreFirst(a.out + r * a.out_stride + column + i * kLanes, sum[r][i],
                 kTail ? a.num_columns - column : kLanes);
    }
  }
}

template <int kRows>
void ValueRows(const Values& a) {
  constexpr int64_t kVectors = kRows <= kTileQueries / 2 ? 4 : 2;
  int64_t c = 0;
  for (; c + kVectors * kLanes <= a.num_columns; c += kVectors * kLanes) {
    ValueTile<kRows, kVectors, false>(a, c);
  }
  for (; c + kLanes <= a.num_columns; c += kLanes) ValueTile<kRows, 1, false>(a, c);
  if (c < a.num_columns) ValueTile<kRows, 1, true>(a, c);
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
  const int64_t padded = PaddedQueries(queries);
  for (int64_t begin = 0; begin < padded; begin += kPassVectors * kLanes) {
    const int64_t width = std::min(kPassVectors * kLanes, padded - begin);
    float* pass = packed + begin * head_dim;
    for (int64_t line = 0; line < head_dim; line += kLine) {
      const int64_t end = std::min(head_dim, line + kLine);
      for (int64_t i = 0; i < width; ++i) {
        const int64_t m = begin + i;
        if (m >= queries) {
          for (int64_t d = line; d < end; ++d) pass[d * width + i] = 0;
        } else {
          const float* from = q + m / group * row_stride + m % group * head_dim;
          for (int64_t d = line; d < end; ++d) pass[d * width + i] = from[d] * scale;
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
  const auto multiply = [&](int64_t tile, Values a) {
    const int64_t m = tile * num_queries / tiles;
    const int64_t rows = (tile + 1) * num_queries / tiles - m;
    a.p += m;
    a.out += m * head_dim;
    kValueFunctions[static_cast<size_t>(rows - 1)](a);
  };
  if (tiles == 1) {
    for (int64_t t = 0; t < count; t += kFewKeys) {
      multiply(0, {.p = p + t * p_stride,
                   .p_stride = p_stride,
                   .v = v + t * head_dim,
                   .v_stride = head_dim,
                   .count = std::min(kFewKeys, count - t),
                   .next = t + kFewKeys < count ? v + (t + kFewKeys) * head_dim : next,
                   .out = out,
                   .out_stride = head_dim,
                   .num_columns = head_dim});
    }
    return;
  }
  // All queries take the same few columns, which stand together meanwhile: rows of the cache lie
  // so that few of them have room in a near cache at once.
  constexpr int64_t kColumns = 2 * kLanes;
  alignas(64) float columns[kBlockTokens * kColumns];
  for (int64_t d = 0; d < head_dim; d += kColumns) {
    const int64_t width = std::min(kColumns, head_dim - d);
    for (int64_t t = 0; t < count; ++t) {
      const float* from = v + t * head_dim + d;
      __builtin_prefetch(next + t * head_dim + d);
      __builtin_prefetch(next + t * head_dim + d + kLanes);
      Store(columns + t * kColumns, LoadFirst(from, width));
      if (width > kLanes) {
        Store(columns + t * kColumns + kLanes, LoadFirst(from + kLanes, width - kLanes));
      }
    }
    for (int64_t i = 0; i < tiles; ++i) {
      multiply(i, {.p = p,
                   .p_stride = p_stride,
                   .v = columns,
                   .v_stride = kColumns,
                   .count = count,
                   .next = columns,
                   .out = out + d,
                   .out_stride = head_dim,
                   .num_columns = width});
    }
  }
}

}  // namespace deltaserve::cpu
