#include "kernels/cpu/sample.h"

#include <algorithm>
#include <array>
#include <limits>

#include "kernels/cpu/exp_sum.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"
#include "kernels/random.h"

namespace deltaserve::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int kMaxThreads = 256;

struct Choice {
  float value = -kInfinity;
  int32_t id = std::numeric_limits<int32_t>::max();

  void Offer(float other, int32_t other_id) {
    if (other > value || (other == value && other_id < id)) *this = {other, other_id};
  }
};

// The parameters of one row.
struct RowParams {
  float temperature;
  int32_t top_k;
  float top_p;
  float min_p;
  uint64_t seed;
  uint32_t sample_index;
  uint32_t token_index;

  bool filtered() const { return top_k > 0 || top_p < 1.0f || min_p > 0.0f; }
};

RowParams ParamsOf(const SampleParams& p, int64_t row) {
  return {.temperature = p.temperature.as<float>()[row],
          .top_k = p.top_k.as<int32_t>()[row],
          .top_p = p.top_p.as<float>()[row],
          .min_p = p.min_p.as<float>()[row],
          .seed = p.seed.as<uint64_t>()[row],
          .sample_index = p.sample_index.as<uint32_t>()[row],
          .token_index = p.token_index.as<uint32_t>()[row]};
}

float NoisyValue(const RowParams& params, float logit, int32_t id) {
  return logit / params.temperature +
         Gumbel(params.seed, params.sample_index, params.token_index, static_cast<uint32_t>(id));
}

// Best of ids [begin, end); logits[0] is id `first`.
Choice Best(
    const RowParams& params, const float* logits, int64_t first, int64_t begin, int64_t end) {
  Choice best;
  if (params.temperature == 0.0f) {
    for (int64_t id = begin; id < end; ++id) {
      best.Offer(logits[id - first], static_cast<int32_t>(id));
    }
    return best;
  }
  constexpr int64_t kBatch = 64;  // ids whose noise is drawn at once
  for (int64_t batch = begin / 4 * 4; batch < end; batch += kBatch) {
    alignas(32) uint32_t words[kBatch];
    alignas(32) float noise[kBatch];
    for (int64_t i = 0; i < kBatch; i += 4) {
      const auto four = TokenWords(params.seed, params.sample_index, params.token_index,
                                   static_cast<uint32_t>((batch + i) / 4));
      std::copy(four.begin(), four.end(), words + i);
    }
    for (int64_t i = 0; i < kBatch; ++i) noise[i] = GumbelOfWord(words[i]);
    const int64_t last = std::min(end, batch + kBatch);
    for (int64_t id = std::max(begin, batch); id < last; ++id) {
      best.Offer(logits[id - first] / params.temperature + noise[id - batch],
                 static_cast<int32_t>(id));
    }
  }
  return best;
}

struct Candidate {
  float logit;
  int32_t id;
};

// The order in which filters keep: most likely first, then lowest id.
bool Before(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

// Weight of a logit relative to the largest.
double WeightOf(const RowParams& params, float logit, float max) {
  return static_cast<double>(Exp((logit - max) / params.temperature));
}

// Candidates [0, count) sorted, of which top_p keeps a prefix: an id stays while the mass before it
// is below top_p of `total`.
int64_t KeepTopP(const RowParams& params, const Candidate* sorted, int64_t count, double total) {
  double before = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (i > 0 && before >= static_cast<double>(params.top_p) * total) return i;
    before += WeightOf(params, sorted[i].logit, sorted[0].logit);
  }
  return count;
}

// Sorts as many of the best candidates as are needed and returns how many the filters keep.
// `logits`: the whole row, of which candidates are the ids that have weight.
int64_t Filter(const RowParams& params,
               const float* logits,
               int64_t num_tokens,
               Candidate* candidates,
               int64_t count) {
  const float max = std::min_element(candidates, candidates + count, Before)->logit;
  int64_t kept = count;
  int64_t sorted = 0;
  const auto sort_to = [&](int64_t n) {
    if (n <= sorted) return;
    if (n < count) std::nth_element(candidates, candidates + n, candidates + count, Before);
    std::sort(candidates, candidates + n, Before);
    sorted = n;
  };
  if (params.top_k > 0 && params.top_k < kept) {
    kept = params.top_k;
    sort_to(kept);
  }
  if (params.top_p < 1.0f) {
    double total = 0;
    if (kept == count) {
      total = ExpSum(logits, num_tokens, max, params.temperature);
    } else {
      for (int64_t i = 0; i < kept; ++i) total += WeightOf(params, candidates[i].logit, max);
    }
    int64_t prefix = std::min<int64_t>(kept, 64);
    for (;; prefix = std::min(kept, prefix * 8)) {
      sort_to(prefix);
      const int64_t stays = KeepTopP(params, candidates, prefix, total);
      if (stays < prefix || prefix == kept) {
        kept = stays;
        break;
      }
    }
  }
  if (params.min_p > 0.0f) {
    const auto end = std::remove_if(candidates, candidates + kept, [&](const Candidate& c) {
      return c.logit != max && WeightOf(params, c.logit, max) < static_cast<double>(params.min_p);
    });
    kept = end - candidates;
  }
  return kept;
}

int32_t SampleFiltered(const RowParams& params,
                       const float* logits,
                       int64_t num_tokens,
                       Candidate* candidates) {
  int64_t count = 0;
  for (int64_t id = 0; id < num_tokens; ++id) {
    // Ids of no weight (and NaN) can never be kept by a filter.
    if (logits[id] > -kInfinity) candidates[count++] = {logits[id], static_cast<int32_t>(id)};
  }
  if (count == 0) return Best(params, logits, 0, 0, num_tokens).id;
  const int64_t kept = Filter(params, logits, num_tokens, candidates, count);
  Choice best;
  for (int64_t i = 0; i < kept; ++i) {
    best.Offer(NoisyValue(params, candidates[i].logit, candidates[i].id), candidates[i].id);
  }
  return best.id;
}

// Best() over the whole of [begin, end), by all threads.
Choice BestParallel(const RowParams& params,
                    const float* logits,
                    int64_t first,
                    int64_t begin,
                    int64_t end,
                    ThreadPool& pool) {
  std::array<Choice, kMaxThreads> part{};
  const int64_t cost = params.temperature == 0.0f ? 1 : 16;
  ParallelFor(
      pool, std::max<int64_t>(0, end - begin), 64, cost, [&](int64_t from, int64_t to, int thread) {
        part[static_cast<size_t>(thread)] = Best(params, logits, first, begin + from, begin + to);
      });
  Choice best;
  for (const Choice& choice : part) best.Offer(choice.value, choice.id);
  return best;
}

}  // namespace

void SampleLocal(const SampleLocalArgs& args, ThreadPool& pool) {
  const int64_t rows = args.logits.dim(0);
  const int64_t width = args.logits.dim(1);
  DS_CHECK(args.value.numel() == rows && args.id.numel() == rows) << args.logits.ToString();
  DS_CHECK_LE(pool.num_threads(), kMaxThreads);
  const float* logits = args.logits.as<float>();
  const int64_t begin = args.first_id;
  const int64_t end = std::min(begin + width, args.num_tokens);
  const auto put = [&](int64_t r, const Choice& choice) {
    args.value.as<float>()[r] = choice.value;
    args.id.as<int32_t>()[r] = choice.id;
  };
  if (rows < pool.num_threads()) {
    for (int64_t r = 0; r < rows; ++r) {
      put(r, BestParallel(ParamsOf(*args.params, r), logits + r * width, begin, begin, end, pool));
    }
    return;
  }
  ParallelFor(pool, rows, 1, 4 * width, [&](int64_t first, int64_t last, int) {
    for (int64_t r = first; r < last; ++r) {
      put(r, Best(ParamsOf(*args.params, r), logits + r * width, begin, begin, end));
    }
  });
}

void Sample(const SampleArgs& args, Arena& arena, ThreadPool& pool) {
  const int64_t rows = args.logits.dim(0);
  const int64_t width = args.logits.dim(1);
  DS_CHECK(args.id.numel() == rows && args.num_tokens <= width) << args.logits.ToString();
  if (rows == 0) return;
  DS_CHECK_LE(pool.num_threads(), kMaxThreads);
  const bool few = rows < pool.num_threads();
  const int64_t threads = std::min<int64_t>(rows, pool.num_threads());
  ArenaScope scope(arena);
  auto* candidates =
      reinterpret_cast<Candidate*>(arena.Allocate(DType::kU64, {threads, width}).as<uint64_t>());
  static_assert(sizeof(Candidate) == sizeof(uint64_t));
  int32_t* ids = args.id.as<int32_t>();
  ParallelFor(pool, rows, 1, 16 * width, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t r = begin; r < end; ++r) {
      const RowParams params = ParamsOf(*args.params, r);
      const float* logits = args.logits.as<float>() + r * width;
      if (params.temperature > 0.0f && params.filtered()) {
        ids[r] = SampleFiltered(params, logits, args.num_tokens, candidates + thread * width);
      } else if (!few) {
        ids[r] = Best(params, logits, 0, 0, args.num_tokens).id;
      }
    }
  });
  if (!few) return;
  for (int64_t r = 0; r < rows; ++r) {
    const RowParams params = ParamsOf(*args.params, r);
    if (params.temperature > 0.0f && params.filtered()) continue;
    const float* logits = args.logits.as<float>() + r * width;
    ids[r] = BestParallel(params, logits, 0, 0, args.num_tokens, pool).id;
  }
}

}  // namespace deltaserve::cpu
