#include "kernels/cpu/attention.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "kernels/cpu/attention_products.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace deltaserve::cpu {
namespace {

// Queries that share a read of the cache, where one row's do not make more: of a chunk, and of the
// rows of one sequence that decodes.
constexpr int64_t kChunkQueries = 48;
constexpr int64_t kDecodeQueries = 16;

int64_t RowsOfQueries(int64_t queries, int64_t group) {
  return std::max<int64_t>(1, queries / group);
}

// Softmax sums of queries over some of their positions.
struct Partial {
  float* sum;     // [queries, head_dim], of exp(score - max) * v
  float* max;     // [queries]
  float* weight;  // [queries], sum of exp(score - max)

  static int64_t Size(int64_t queries, int64_t head_dim) {
    return PaddedQueries(queries) * (head_dim + 2);
  }
  static Partial Carve(float* memory, int64_t queries, int64_t head_dim) {
    float* const max = memory + PaddedQueries(queries) * head_dim;
    return {memory, max, max + PaddedQueries(queries)};
  }
};

// Scratch of one share of the work, for at most `queries` queries.
struct Scratch {
  float* q;        // [queries, head_dim], packed and scaled
  float* scores;   // [kSplitTokens, queries]
  Partial so_far;  // of the splits so far
  Partial split;   // of one split

  static int64_t Size(int64_t queries, int64_t head_dim) {
    return PaddedQueries(queries) * (head_dim + kSplitTokens) +
           2 * Partial::Size(queries, head_dim);
  }
  static Scratch Carve(float* memory, int64_t queries, int64_t head_dim) {
    Scratch s{};
    s.q = memory;
    s.scores = s.q + PaddedQueries(queries) * head_dim;
    memory = s.scores + PaddedQueries(queries) * kSplitTokens;
    s.so_far = Partial::Carve(memory, queries, head_dim);
    s.split = Partial::Carve(memory + Partial::Size(queries, head_dim), queries, head_dim);
    return s;
  }
};

// Consecutive rows of one sequence, and one KV head.
struct Run {
  int64_t row = 0;
  int64_t num_rows = 0;
  int64_t kv_head = 0;
  int64_t group = 0;           // query heads of the KV head
  int64_t first_position = 0;  // of the first row; the others follow
  const int32_t* blocks = nullptr;

  int64_t queries() const { return num_rows * group; }
  int64_t end() const { return first_position + num_rows; }  // of the positions that it sees
  int64_t num_splits() const { return (end() + kSplitTokens - 1) / kSplitTokens; }
  // Positions in [begin, begin + size) that row r sees.
  int64_t Visible(int64_t r, int64_t begin, int64_t size) const {
    return std::clamp<int64_t>(first_position + r + 1 - begin, 0, size);
  }
};

// Calls f with each run of at most max_rows rows of the sequences [begin, end).
template <typename F>
void ForEachRun(const AttentionArgs& args, int64_t begin, int64_t end, int64_t max_rows, F f) {
  const RowBatch& rows = *args.rows;
  const int32_t* row_begin = rows.row_begin.as<int32_t>();
  for (int64_t s = begin; s < end; ++s) {
    const int64_t slot = rows.slot.as<int32_t>()[s];
    for (int64_t h = 0; h < args.num_kv_heads; ++h) {
      for (int64_t row = row_begin[s]; row < row_begin[s + 1]; row += max_rows) {
        f(Run{.row = row,
              .num_rows = std::min(max_rows, row_begin[s + 1] - row),
              .kv_head = h,
              .group = args.num_heads / args.num_kv_heads,
              .first_position = rows.positions.as<int32_t>()[row],
              .blocks = rows.block_table.as<int32_t>() + slot * rows.block_table.dim(1)});
      }
    }
  }
}

void PackRun(const AttentionArgs& args, const Run& run, const Scratch& s) {
  const int64_t hd = args.head_dim;
  const int64_t stride = args.num_heads * hd;
  PackQueries(args.q.as<float>() + run.row * stride + run.kv_head * run.group * hd, stride,
              run.num_rows, run.group, hd, 1.0f / std::sqrt(static_cast<float>(hd)), s.q);
}

// scores[t][m], t < count of the split at `begin`, become exp(score - max) for the positions that
// the query sees.
void Softmax(
    const Run& run, int64_t begin, int64_t count, float* scores, float* max, float* weight) {
  const F32 lowest = Set1(-std::numeric_limits<float>::infinity());
  const int64_t stride = PaddedQueries(run.queries());
  const int64_t shared = run.Visible(0, begin, count);
  for (int64_t m = 0; m < stride; m += kLanes) {
    // The first queries are of the first rows, which see least.
    const auto hidden = [&](int64_t t) {
      return std::max<int64_t>(0, (begin + t - run.first_position) * run.group - m);
    };
    float* column = scores + m;
    F32 best[2] = {lowest, lowest};
    for (int64_t t = 0; t < shared; ++t) best[t % 2] = Max(best[t % 2], Load(column + t * stride));
    for (int64_t t = shared; t < count; ++t) {
      best[0] = Max(best[0], KeepFirst(lowest, hidden(t), Load(column + t * stride)));
    }
    best[0] = Max(best[0], best[1]);
    F32 sum = Zero();
    for (int64_t t = 0; t < shared; ++t) {
      const F32 e = Exp(Sub(Load(column + t * stride), best[0]));
      Store(column + t * stride, e);
      sum = Add(sum, e);
    }
    for (int64_t t = shared; t < count; ++t) {
      const F32 e = KeepFirst(Zero(), hidden(t), Exp(Sub(Load(column + t * stride), best[0])));
      Store(column + t * stride, e);
      sum = Add(sum, e);
    }
    Store(max + m, best[0]);
    Store(weight + m, sum);
  }
}

// to.sum += the values of the block at `position` weighted by p, each query to its own end.
void AddBlock(const AttentionArgs& args,
              const Run& run,
              int64_t position,
              int64_t count,
              const float* p,
              const float* v,
              const float* next,
              const Partial& to) {
  const int64_t hd = args.head_dim;
  const int64_t stride = PaddedQueries(run.queries());
  const int64_t shared = run.Visible(0, position, count);
  AddValues(p, stride, run.queries(), v, shared, hd, next, to.sum);
  for (int64_t r = 1; r < run.num_rows; ++r) {
    const int64_t rest = run.Visible(r, position, count) - shared;
    if (rest == 0) continue;
    const int64_t m = r * run.group;
    AddValues(p + shared * stride + m, stride, run.group, v + shared * hd, rest, hd, next,
              to.sum + m * hd);
  }
}

// The sums of positions [begin, begin + kSplitTokens).
void RunSplit(
    const AttentionArgs& args, const Run& run, int64_t begin, const Scratch& s, const Partial& to) {
  const int64_t hd = args.head_dim;
  const int64_t stride = PaddedQueries(run.queries());
  const int64_t end = std::min(begin + kSplitTokens, run.end());
  const auto block = [&](const TensorView& cache, int64_t position) {
    return cache.as<float>() +
           (run.blocks[position / kBlockTokens] * args.num_kv_heads + run.kv_head) * kBlockTokens *
               hd;
  };
  for (int64_t t = begin; t < end; t += kBlockTokens) {
    const int64_t after = t + kBlockTokens;
    ScoreKeys(s.q, run.queries(), block(args.k_cache, t), std::min(kBlockTokens, end - t), hd,
              after < end ? block(args.k_cache, after) : block(args.v_cache, begin),
              s.scores + (t - begin) * stride);
  }
  Softmax(run, begin, end - begin, s.scores, to.max, to.weight);
  std::fill_n(to.sum, run.queries() * hd, 0.0f);
  for (int64_t t = begin; t < end; t += kBlockTokens) {
    const int64_t after = t + kBlockTokens;
    AddBlock(args, run, t, std::min(kBlockTokens, end - t), s.scores + (t - begin) * stride,
             block(args.v_cache, t),
             after < end         ? block(args.v_cache, after)
             : after < run.end() ? block(args.k_cache, after)
                                 : block(args.k_cache, begin),
             to);
  }
}

// Folds the split at `begin` > 0 into the sums so far.
void Merge(const Run& run, int64_t begin, int64_t hd, const Partial& split, const Partial& so_far) {
  for (int64_t m = 0; m < run.queries(); ++m) {
    if (run.Visible(m / run.group, begin, kSplitTokens) == 0) continue;
    const float next = std::max(split.max[m], so_far.max[m]);
    const float keep = Exp(so_far.max[m] - next);
    const float add = Exp(split.max[m] - next);
    const F32 keep_all = Set1(keep);
    const F32 add_all = Set1(add);
    float* sum = so_far.sum + m * hd;
    const float* from = split.sum + m * hd;
    for (int64_t d = 0; d < hd; d += kLanes) {
      const F32 kept = Mul(keep_all, LoadFirst(sum + d, hd - d));
      StoreFirst(sum + d, Fma(add_all, LoadFirst(from + d, hd - d), kept), hd - d);
    }
    so_far.max[m] = next;
    so_far.weight[m] = so_far.weight[m] * keep + split.weight[m] * add;
  }
}

// Splits [0, count) of a run in order.
void RunSplits(const AttentionArgs& args, const Run& run, int64_t count, const Scratch& s) {
  RunSplit(args, run, 0, s, s.so_far);
  for (int64_t i = 1; i < count; ++i) {
    RunSplit(args, run, i * kSplitTokens, s, s.split);
    Merge(run, i * kSplitTokens, args.head_dim, s.split, s.so_far);
  }
}

// out = mean of the values times sigmoid(gate).
void Finish(const AttentionArgs& args, const Run& run, const Partial& all) {
  const int64_t hd = args.head_dim;
  for (int64_t m = 0; m < run.queries(); ++m) {
    const int64_t head = run.kv_head * run.group + m % run.group;
    const int64_t index = (run.row + m / run.group) * args.num_heads + head;
    const float* gate = args.qg.as<float>() + index * 2 * hd + hd;
    float* out = args.out.as<float>() + index * hd;
    const F32 scale = Set1(1.0f / all.weight[m]);
    for (int64_t d = 0; d < hd; d += kLanes) {
      const F32 mean = Mul(LoadFirst(all.sum + m * hd + d, hd - d), scale);
      const F32 closed = Exp(Negate(LoadFirst(gate + d, hd - d)));
      StoreFirst(out + d, Div(mean, Add(Set1(1.0f), closed)), hd - d);
    }
  }
}

// The chunks of a batch, shared out by run.
class Chunks {
 public:
  Chunks(const AttentionArgs& args, int64_t shares) : args_(args), shares_(shares) {
    const int64_t group = args.num_heads / args.num_kv_heads;
    const int64_t rows = args.rows->num_rows - args.rows->num_decode_rows;
    // A few runs a share at least: a run's rows change no bit.
    max_rows_ = std::clamp<int64_t>(rows * args.num_kv_heads / (4 * shares), 1,
                                    RowsOfQueries(kChunkQueries, group));
    ForEach([&](const Run& run) { work_ += Work(run); });
  }

  int64_t work() const { return work_; }

  // The runs whose middle lies in this share of the work.
  void RunShare(int64_t share, const Scratch& s) const {
    int64_t done = 0;
    ForEach([&](const Run& run) {
      const int64_t middle = done + Work(run) / 2;
      done += Work(run);
      if (middle * shares_ / work_ != share) return;
      PackRun(args_, run, s);
      RunSplits(args_, run, run.num_splits(), s);
      Finish(args_, run, s.so_far);
    });
  }

 private:
  template <typename F>
  void ForEach(F f) const {
    ForEachRun(args_, args_.rows->num_decode, args_.rows->num_sequences, max_rows_, f);
  }
  // Scores, at least 1.
  static int64_t Work(const Run& run) { return run.queries() * run.end(); }

  const AttentionArgs& args_;
  const int64_t shares_;
  int64_t max_rows_ = 1;
  int64_t work_ = 0;
};

// The rows of sequences that decode, shared out by split, so that one long sequence fills all
// threads. A share that begins within a run keeps each of its splits there apart; a share that
// begins a run and does not end it merges those of the shares after it, in order.
class Decodes {
 public:
  Decodes(const AttentionArgs& args, int64_t shares) : args_(args), shares_(shares) {
    const int64_t group = args.num_heads / args.num_kv_heads;
    max_rows_ = RowsOfQueries(kDecodeQueries, group);
    const int64_t most = args.rows->block_table.dim(1) * kBlockTokens;
    max_splits_ = (most + kSplitTokens - 1) / kSplitTokens;
    partial_size_ = Partial::Size(max_rows_ * group, args.head_dim);
    ForEach([&](const Run& run) {
      num_splits_ += run.num_splits();
      work_ += run.queries() * run.end();
    });
  }

  int64_t work() const { return work_; }
  // f32 of the splits that shares keep apart; the first share has none.
  int64_t PartialsSize() const { return (shares_ - 1) * max_splits_ * partial_size_; }

  // Returns whether a run is left for Merge.
  bool RunShare(int64_t share, const Scratch& s, float* partials) const {
    bool open = false;
    ForEachPiece([&](const Run& run, int64_t first) {
      const int64_t begin = std::max(Begin(share), first) - first;
      const int64_t end = std::min(Begin(share + 1) - first, run.num_splits());
      if (begin >= end) return;
      PackRun(args_, run, s);
      if (begin > 0) {
        for (int64_t i = begin; i < end; ++i) {
          RunSplit(args_, run, i * kSplitTokens, s, At(partials, run, share, i - begin));
        }
        return;
      }
      RunSplits(args_, run, end, s);
      open = end < run.num_splits();
      if (!open) Finish(args_, run, s.so_far);
    });
    return open;
  }

  // Ends the run that RunShare(share) left open, once all shares have run.
  void MergeShare(int64_t share, const Scratch& s, float* partials) const {
    ForEachPiece([&](const Run& run, int64_t first) {
      const int64_t last = first + run.num_splits();
      if (first < Begin(share) || first >= Begin(share + 1) || last <= Begin(share + 1)) return;
      for (int64_t from = share + 1; Begin(from) < last; ++from) {
        const int64_t begin = Begin(from) - first;
        const int64_t end = std::min(Begin(from + 1), last) - first;
        for (int64_t i = begin; i < end; ++i) {
          Merge(run, i * kSplitTokens, args_.head_dim, At(partials, run, from, i - begin),
                s.so_far);
        }
      }
      Finish(args_, run, s.so_far);
    });
  }

 private:
  template <typename F>
  void ForEach(F f) const {
    ForEachRun(args_, 0, args_.rows->num_decode, max_rows_, f);
  }
  // f(run, index of its first split among all)
  template <typename F>
  void ForEachPiece(F f) const {
    int64_t first = 0;
    ForEach([&](const Run& run) {
      f(run, first);
      first += run.num_splits();
    });
  }
  int64_t Begin(int64_t share) const { return num_splits_ * share / shares_; }
  Partial At(float* partials, const Run& run, int64_t share, int64_t i) const {
    return Partial::Carve(partials + ((share - 1) * max_splits_ + i) * partial_size_, run.queries(),
                          args_.head_dim);
  }

  const AttentionArgs& args_;
  const int64_t shares_;
  int64_t max_rows_ = 1;
  int64_t max_splits_ = 0;
  int64_t partial_size_ = 0;
  int64_t num_splits_ = 0;
  int64_t work_ = 0;
};

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
  const int64_t shares = pool.num_threads();
  const Chunks chunks(args, shares);
  const Decodes decodes(args, shares);
  const int64_t group = args.num_heads / args.num_kv_heads;
  const int64_t queries = RowsOfQueries(kChunkQueries, group) * group;
  ArenaScope scope(arena);
  const int64_t per_share = Scratch::Size(queries, hd);
  float* memory = arena.Allocate(DType::kF32, {shares, per_share}).as<float>();
  float* partials = arena.Allocate(DType::kF32, {decodes.PartialsSize()}).as<float>();
  const auto scratch = [&](int64_t share) {
    return Scratch::Carve(memory + share * per_share, queries, hd);
  };
  const int64_t cost = (chunks.work() + decodes.work()) * hd / (4 * shares);
  std::atomic<bool> open = false;
  ParallelFor(pool, shares, 1, cost, [&](int64_t begin, int64_t end, int) {
    for (int64_t share = begin; share < end; ++share) {
      if (chunks.work() > 0) chunks.RunShare(share, scratch(share));
      if (decodes.RunShare(share, scratch(share), partials)) open = true;
    }
  });
  if (!open) return;
  ParallelFor(pool, shares, 1, cost, [&](int64_t begin, int64_t end, int) {
    for (int64_t share = begin; share < end; ++share) {
      decodes.MergeShare(share, scratch(share), partials);
    }
  });
}

}  // namespace deltaserve::cpu
