#include "kernels/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/strided_matmul.h"

namespace deltaserve::cpu {
namespace {

constexpr int64_t kTileRows = 4;  // prefill rows that share a read of the cache

// Scratch of one thread, for at most kTileRows * group queries.
struct Scratch {
  float* q;       // [queries, head_dim], scaled
  float* scores;  // [queries, kSplitTokens]
  float* sum;     // [queries, head_dim], of splits so far
  float* split;   // [queries, head_dim], of this split
  float* max;     // [queries]
  float* weight;  // [queries], sum of exp(score - max)
  float* split_max;
  float* split_weight;
};

int64_t ScratchSize(int64_t queries, int64_t head_dim) {
  return queries * (3 * head_dim + kSplitTokens + 4);
}

Scratch Carve(float* memory, int64_t queries, int64_t head_dim) {
  Scratch s{};
  s.q = memory;
  s.scores = s.q + queries * head_dim;
  s.sum = s.scores + queries * kSplitTokens;
  s.split = s.sum + queries * head_dim;
  s.max = s.split + queries * head_dim;
  s.weight = s.max + queries;
  s.split_max = s.weight + queries;
  s.split_weight = s.split_max + queries;
  return s;
}

// Consecutive rows of one sequence, and one KV head.
struct Run {
  int64_t row = 0;
  int64_t num_rows = 0;
  int64_t kv_head = 0;
  int64_t group = 0;           // query heads of the KV head
  int64_t first_position = 0;  // of the first row; the others follow
  const int32_t* blocks = nullptr;

  int64_t queries() const { return num_rows * group; }
  // Positions in [begin, begin + size) that query m sees.
  int64_t Visible(int64_t m, int64_t begin, int64_t size) const {
    return std::clamp<int64_t>(first_position + m / group + 1 - begin, 0, size);
  }
};

// scores[m][t] = q[m] . k[t] for kQueries queries and kKeys keys.
template <int kQueries, int kKeys>
inline void Dots(const float* q, const float* k, int64_t hd, float* scores) {
  F32 sum[kQueries][kKeys];
#pragma GCC unroll 4
  for (int m = 0; m < kQueries; ++m) {
#pragma GCC unroll 4
    for (int t = 0; t < kKeys; ++t) sum[m][t] = Zero();
  }
  const auto step = [&](int64_t d, auto load) {
    F32 key[kKeys];
#pragma GCC unroll 4
    for (int t = 0; t < kKeys; ++t) key[t] = load(k + t * hd + d);
#pragma GCC unroll 4
    for (int m = 0; m < kQueries; ++m) {
      const F32 x = load(q + m * hd + d);
#pragma GCC unroll 4
      for (int t = 0; t < kKeys; ++t) sum[m][t] = Fma(x, key[t], sum[m][t]);
    }
  };
  int64_t d = 0;
  for (; d + kLanes <= hd; d += kLanes) {
    step(d, [](const float* p) { return Load(p); });
  }
  if (d < hd) {
    step(d, [n = hd - d](const float* p) { return LoadFirst(p, n); });
  }
#pragma GCC unroll 4
  for (int m = 0; m < kQueries; ++m) {
#pragma GCC unroll 4
    for (int t = 0; t < kKeys; ++t) scores[m * kSplitTokens + t] = ReduceSum(sum[m][t]);
  }
}

template <int kQueries>
void ScoreKeys(const float* q, const float* k, int64_t count, int64_t hd, float* scores) {
  int64_t t = 0;
  for (; t + 4 <= count; t += 4) Dots<kQueries, 4>(q, k + t * hd, hd, scores + t);
  for (; t < count; ++t) Dots<kQueries, 1>(q, k + t * hd, hd, scores + t);
}

// Scores of all queries with `count` keys of one block.
void ScoreBlock(
    const Scratch& s, int64_t queries, const float* k, int64_t count, int64_t hd, float* scores) {
  int64_t m = 0;
  for (; m + 2 <= queries; m += 2) {
    ScoreKeys<2>(s.q + m * hd, k, count, hd, scores + m * kSplitTokens);
  }
  if (m < queries) ScoreKeys<1>(s.q + m * hd, k, count, hd, scores + m * kSplitTokens);
}

// scores[0, n) become exp(score - max); returns {max, sum}.
std::pair<float, float> Softmax(float* scores, int64_t n) {
  const F32 lowest = Set1(-std::numeric_limits<float>::infinity());
  F32 best = lowest;
  for (int64_t t = 0; t < n; t += kLanes) {
    best = Max(best, KeepFirst(LoadFirst(scores + t, n - t), n - t, lowest));
  }
  const float max = ReduceMax(best);
  F32 sum = Zero();
  for (int64_t t = 0; t < n; t += kLanes) {
    const F32 e = KeepFirst(Exp(Sub(LoadFirst(scores + t, n - t), Set1(max))), n - t, Zero());
    StoreFirst(scores + t, e, n - t);
    sum = Add(sum, e);
  }
  return {max, ReduceSum(sum)};
}

// out[m] += sum over the visible t < count of p[m][t] v[t], each query to its own end.
void AddValues(const Run& run,
               int64_t position,
               const float* p,
               const float* v,
               int64_t count,
               int64_t hd,
               float* out) {
  const int64_t queries = run.queries();
  const int64_t shared = run.Visible(0, position, count);
  MultiplyStrided({p, kSplitTokens, 1}, queries, v, hd, shared, hd, Start::kOutput, out, hd);
  for (int64_t m = run.group; m < queries; ++m) {
    const int64_t rest = run.Visible(m, position, count) - shared;
    if (rest == 0) continue;
    MultiplyStrided({p + m * kSplitTokens + shared, kSplitTokens, 1}, 1, v + shared * hd, hd, rest,
                    hd, Start::kOutput, out + m * hd, hd);
  }
}

// Folds the split of query m into the sums so far; `begin` = 0 starts them.
void Merge(const Scratch& s, int64_t m, int64_t begin, int64_t hd) {
  const float max = s.split_max[m];
  const float weight = s.split_weight[m];
  float* sum = s.sum + m * hd;
  const float* split = s.split + m * hd;
  if (begin == 0) {
    std::copy_n(split, hd, sum);
    s.max[m] = max;
    s.weight[m] = weight;
    return;
  }
  const float next = std::max(max, s.max[m]);
  const float keep = Exp(s.max[m] - next);
  const float add = Exp(max - next);
  const F32 keep_all = Set1(keep);
  const F32 add_all = Set1(add);
  for (int64_t d = 0; d < hd; d += kLanes) {
    const F32 kept = Mul(keep_all, LoadFirst(sum + d, hd - d));
    StoreFirst(sum + d, Fma(add_all, LoadFirst(split + d, hd - d), kept), hd - d);
  }
  s.max[m] = next;
  s.weight[m] = s.weight[m] * keep + weight * add;
}

void RunSplit(const AttentionArgs& args, const Run& run, int64_t begin, const Scratch& s) {
  const int64_t hd = args.head_dim;
  const int64_t queries = run.queries();
  const int64_t end = std::min(begin + kSplitTokens, run.first_position + run.num_rows);
  const auto offset = [&](int64_t position) {
    return (run.blocks[position / kBlockTokens] * args.num_kv_heads + run.kv_head) * kBlockTokens *
           hd;
  };
  for (int64_t t = begin; t < end; t += kBlockTokens) {
    ScoreBlock(s, queries, args.k_cache.as<float>() + offset(t), std::min(kBlockTokens, end - t),
               hd, s.scores + (t - begin));
  }
  for (int64_t m = 0; m < queries; ++m) {
    const int64_t n = run.Visible(m, begin, kSplitTokens);
    if (n > 0)
      std::tie(s.split_max[m], s.split_weight[m]) = Softmax(s.scores + m * kSplitTokens, n);
  }
  std::fill_n(s.split, queries * hd, 0.0f);
  for (int64_t t = begin; t < end; t += kBlockTokens) {
    AddValues(run, t, s.scores + (t - begin), args.v_cache.as<float>() + offset(t),
              std::min(kBlockTokens, end - t), hd, s.split);
  }
  for (int64_t m = 0; m < queries; ++m) {
    if (run.Visible(m, begin, kSplitTokens) > 0) Merge(s, m, begin, hd);
  }
}

void RunRows(const AttentionArgs& args, const Run& run, const Scratch& s) {
  const int64_t hd = args.head_dim;
  const float scale = 1.0f / std::sqrt(static_cast<float>(hd));
  for (int64_t m = 0; m < run.queries(); ++m) {
    const int64_t head = run.kv_head * run.group + m % run.group;
    const float* q = args.q.as<float>() + ((run.row + m / run.group) * args.num_heads + head) * hd;
    for (int64_t d = 0; d < hd; ++d) s.q[m * hd + d] = q[d] * scale;
  }
  for (int64_t t = 0; t < run.first_position + run.num_rows; t += kSplitTokens) {
    RunSplit(args, run, t, s);
  }
  for (int64_t m = 0; m < run.queries(); ++m) {
    const int64_t head = run.kv_head * run.group + m % run.group;
    const int64_t index = (run.row + m / run.group) * args.num_heads + head;
    const float* gate = args.qg.as<float>() + index * 2 * hd + hd;
    float* out = args.out.as<float>() + index * hd;
    const F32 weight = Set1(s.weight[m]);
    for (int64_t d = 0; d < hd; d += kLanes) {
      const F32 mean = Div(LoadFirst(s.sum + m * hd + d, hd - d), weight);
      StoreFirst(out + d, Mul(mean, Sigmoid(LoadFirst(gate + d, hd - d))), hd - d);
    }
  }
}

// Rows [begin, end) for one KV head, in runs of one sequence each.
void RunTile(const AttentionArgs& args,
             int64_t begin,
             int64_t end,
             int64_t kv_head,
             const Scratch& scratch) {
  const RowBatch& rows = *args.rows;
  const int32_t* sequence = rows.row_sequence.as<int32_t>();
  while (begin < end) {
    int64_t next = begin + 1;
    while (next < end && sequence[next] == sequence[begin]) ++next;
    const int64_t slot = rows.slot.as<int32_t>()[sequence[begin]];
    RunRows(args,
            Run{.row = begin,
                .num_rows = next - begin,
                .kv_head = kv_head,
                .group = args.num_heads / args.num_kv_heads,
                .first_position = rows.positions.as<int32_t>()[begin],
                .blocks = rows.block_table.as<int32_t>() + slot * rows.block_table.dim(1)},
            scratch);
    begin = next;
  }
}

}  // namespace

void Attention(const AttentionArgs& args, Arena& arena, ThreadPool& pool) {
  const int64_t n = args.rows->num_rows;
  const int64_t hd = args.head_dim;
  DS_CHECK(args.num_heads % args.num_kv_heads == 0)
      << args.num_heads << " heads on " << args.num_kv_heads << " KV heads";
  DS_CHECK(args.q.numel() == n * args.num_heads * hd && args.out.numel() == args.q.numel() &&
           args.qg.numel() == 2 * args.q.numel())
      << args.q.ToString() << " to " << args.out.ToString();
  DS_CHECK(args.k_cache.dim(1) == args.num_kv_heads && args.k_cache.dim(3) == hd)
      << args.k_cache.ToString();
  if (n == 0) return;
  // Decode rows are tiles of their own, so that few rows still fill the threads.
  const int64_t decode_rows = args.rows->num_decode_rows;
  const int64_t tiles = decode_rows + (n - decode_rows + kTileRows - 1) / kTileRows;
  const int64_t queries = kTileRows * (args.num_heads / args.num_kv_heads);
  ArenaScope scope(arena);
  const int64_t per_thread = ScratchSize(queries, hd);
  float* memory = arena.Allocate(DType::kF32, {pool.num_threads(), per_thread}).as<float>();
  const int64_t cost = n * hd * kBlockTokens;
  ParallelFor(
      pool, tiles * args.num_kv_heads, 1, cost, [&](int64_t begin, int64_t end, int thread) {
        const Scratch scratch = Carve(memory + thread * per_thread, queries, hd);
        for (int64_t i = begin; i < end; ++i) {
          // Early and late tiles in turn: later ones see more positions.
          const int64_t j = i % tiles;
          const int64_t tile = j % 2 == 0 ? j / 2 : tiles - 1 - j / 2;
          const int64_t row =
              tile < decode_rows ? tile : decode_rows + (tile - decode_rows) * kTileRows;
          const int64_t row_end = tile < decode_rows ? row + 1 : std::min(n, row + kTileRows);
          RunTile(args, row, row_end, i / tiles, scratch);
        }
      });
}

}  // namespace deltaserve::cpu
