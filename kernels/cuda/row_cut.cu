#include <algorithm>

#include "kernels/base/check.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_cut.h"
#include "kernels/cuda/row_order.h"

namespace deltaserve::cuda {
namespace {

constexpr int kMaxThreads = 512;
constexpr int64_t kListCapacity = 16384;
constexpr int kDigitBits = 8;
constexpr int kDigits = 1 << kDigitBits;

struct Filter {
  float temperature;
  int32_t top_k;
  float top_p;
  float min_p;
  bool any;
};

__device__ Filter FilterOf(const RowFilters& filters, int row) {
  if (filters.temperature == nullptr) return {1.0F, filters.first, 1.0F, 0.0F, true};
  Filter f = {filters.temperature[row], filters.top_k[row], filters.top_p[row], filters.min_p[row],
              false};
  f.any = f.temperature > 0.0F && (f.top_k > 0 || f.top_p < 1.0F || f.min_p > 0.0F);
  return f;
}

// Number and weight of some ids.
struct Tally {
  int32_t count;
  uint64_t weight;
};

__device__ Tally Plus(Tally a, Tally b) { return {a.count + b.count, a.weight + b.weight}; }

__device__ uint64_t ShuffleUp64(uint64_t value, int delta) {
  const uint32_t low = ShuffleUp(static_cast<uint32_t>(value), delta);
  const uint32_t high = ShuffleUp(static_cast<uint32_t>(value >> 32), delta);
  return uint64_t{high} << 32 | low;
}

// What a block needs to find a bin.
struct Search {
  Tally warp[kMaxThreads / kWarp];
  int32_t bin;
  Tally before;
  Tally own;
};

// The sum of `own` over the threads before this one; `all`: over all threads.
__device__ Tally BlockBefore(Tally own, Search& search, Tally* all) {
  Tally sum = own;
#pragma unroll
  for (int delta = 1; delta < kWarp; delta *= 2) {
    const Tally other = {ShuffleUp(sum.count, delta), ShuffleUp64(sum.weight, delta)};
    if (LaneId() >= delta) sum = Plus(sum, other);
  }
  __syncthreads();
  if (LaneId() == kWarp - 1) search.warp[WarpId()] = sum;
  __syncthreads();
  Tally before = {sum.count - own.count, sum.weight - own.weight};
  *all = {0, 0};
  for (int w = 0; w < static_cast<int>(blockDim.x) / kWarp; ++w) {
    if (w < WarpId()) before = Plus(before, search.warp[w]);
    *all = Plus(*all, search.warp[w]);
  }
  return before;
}

// Bins in their order, by number of ids or by weight.
struct Bins {
  const int32_t* count;
  const uint64_t* weight;
  int size;
};

// A place in the order: where number or weight of what comes before reaches `at`.
struct Target {
  bool by_weight;
  uint64_t at;

  __device__ uint64_t Of(Tally tally) const {
    return by_weight ? tally.weight : static_cast<uint64_t>(tally.count);
  }
};

struct Found {
  int32_t bin;
  Tally before;  // in bins before
  Tally own;
};

__device__ Tally TotalOf(Bins bins, Search& search) {
  Tally own = {0, 0};
  for (int b = static_cast<int>(threadIdx.x); b < bins.size; b += static_cast<int>(blockDim.x)) {
    own = Plus(own, {bins.count[b], bins.weight[b]});
  }
  Tally all;
  BlockBefore(own, search, &all);
  return all;
}

// The bin b with before(b) < target <= before(b) + own(b). There is one where 0 < target <= the
// total. Called by the whole block; all get the result.
__device__ Found FindBin(Bins bins, Target target, Search& search) {
  const int per_thread =
      (bins.size + static_cast<int>(blockDim.x) - 1) / static_cast<int>(blockDim.x);
  const int begin = static_cast<int>(threadIdx.x) * per_thread;
  const int end = begin + per_thread < bins.size ? begin + per_thread : bins.size;
  Tally own = {0, 0};
  for (int b = begin; b < end; ++b) own = Plus(own, {bins.count[b], bins.weight[b]});
  Tally all;
  Tally before = BlockBefore(own, search, &all);
  if (target.Of(before) < target.at && target.at <= target.Of(Plus(before, own))) {
    for (int b = begin; b < end; ++b) {
      const Tally bin = {bins.count[b], bins.weight[b]};
      const Tally after = Plus(before, bin);
      if (target.at <= target.Of(after)) {
        search.bin = b;
        search.before = before;
        search.own = bin;
        break;
      }
      before = after;
    }
  }
  __syncthreads();
  const Found found = {search.bin, search.before, search.own};
  __syncthreads();
  return found;
}

// Adds up neighbours of one bin before it touches the shared sums, which are then seldom fought
// for.
struct Adder {
  int32_t* count;
  uint64_t* weight;
  int bin = -1;
  Tally run = {0, 0};

  __device__ void Add(int to, uint64_t w) {
    if (to != bin) Flush();
    bin = to;
    run = Plus(run, {1, w});
  }
  __device__ void Flush() {
    if (run.count == 0) return;
    AtomicAdd(count + bin, run.count);
    if (run.weight != 0) AtomicAdd(weight + bin, run.weight);
    run = {0, 0};
  }
};

struct VisitMax {
  float max = -INFINITY;
  __device__ bool Look(float logit) {
    max = fmaxf(max, logit);
    return false;
  }
  __device__ void Take(float /*logit*/, uint32_t /*id*/) {}
};

// Block (row, part): the largest logit of the part; sets the row's sums to 0.
__global__ void FindMax(
    const float* logits, int64_t width, int64_t num_tokens, RowFilters filters, RowCuts cuts) {
  __shared__ float shared[kWarp];
  const int row = static_cast<int>(blockIdx.x);
  const int part = static_cast<int>(blockIdx.y);
  const int parts = static_cast<int>(gridDim.y);
  if (!FilterOf(filters, row).any) return;
  VisitMax visit;
  VisitRow(logits + row * width, PartOf(num_tokens, part, parts), visit);
  const float max = BlockMax(visit.max, shared);
  if (threadIdx.x == 0) {
    cuts.part_max[row * kMaxParts + part] = max;
    if (part == 0) cuts.next[row] = 0;
  }
  const int stride = static_cast<int>(blockDim.x) * parts;
  for (int b = part * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x); b < kBins;
       b += stride) {
    cuts.bin_count[row * kBins + b] = 0;
    cuts.bin_weight[row * kBins + b] = 0;
  }
}

// Of the whole row; every warp by itself.
__device__ float MaxOf(const RowCuts& cuts, int row, int parts) {
  return WarpMax(LaneId() < parts ? cuts.part_max[row * kMaxParts + LaneId()] : -INFINITY);
}

__device__ Bins BinsOf(const RowCuts& cuts, int row) {
  return {cuts.bin_count + row * kBins, cuts.bin_weight + row * kBins, kBins};
}

struct VisitBins {
  float max;
  float temperature;
  Adder adder;
  __device__ bool Look(float logit) {
    const float below = Below(logit, max, temperature);
    adder.Add(BinOf(below), WeightOf(below));
    return false;
  }
  __device__ void Take(float /*logit*/, uint32_t /*id*/) {}
};

// Block (row, part): number and weight of the part's ids, by bin.
__global__ void FillBins(
    const float* logits, int64_t width, int64_t num_tokens, RowFilters filters, RowCuts cuts) {
  __shared__ int32_t count[kBins];
  __shared__ uint64_t weight[kBins];
  const int row = static_cast<int>(blockIdx.x);
  const int parts = static_cast<int>(gridDim.y);
  const Filter filter = FilterOf(filters, row);
  if (!filter.any) return;
  for (int b = static_cast<int>(threadIdx.x); b < kBins; b += static_cast<int>(blockDim.x)) {
    count[b] = 0;
    weight[b] = 0;
  }
  __syncthreads();
  VisitBins visit = {MaxOf(cuts, row, parts), filter.temperature, {count, weight}};
  VisitRow(logits + row * width, PartOf(num_tokens, static_cast<int>(blockIdx.y), parts), visit);
  visit.adder.Flush();
  __syncthreads();
  for (int b = static_cast<int>(threadIdx.x); b < kBins; b += static_cast<int>(blockDim.x)) {
    if (count[b] == 0) continue;
    AtomicAdd(cuts.bin_count + row * kBins + b, count[b]);
    AtomicAdd(cuts.bin_weight + row * kBins + b, weight[b]);
  }
}

// Where the filters of a row cut, as far as the bins show it.
struct Plan {
  Tally all;
  Found top_k;  // its bin, where top_k is on
  bool by_top_k;
  bool by_top_p;
  int32_t last_bin;  // nothing beyond it is kept
  int32_t listed;    // ids up to there; -1 where they are more than the list takes
};

// The weight of which what comes before an id must stay short, for the id to be kept.
__device__ Target TopPTarget(float top_p, uint64_t total) {
  const double share = static_cast<double>(top_p) * static_cast<double>(total);
  auto at = share > 1.0 ? static_cast<uint64_t>(share) : uint64_t{1};
  if (static_cast<double>(at) < share) ++at;
  return {true, at < total ? at : total};
}

__device__ Plan PlanOf(const Filter& filter, Bins bins, int64_t capacity, Search& search) {
  Plan plan;
  plan.all = TotalOf(bins, search);
  plan.by_top_k = filter.top_k > 0 && filter.top_k < plan.all.count;
  // Without a weight there is no number in the row.
  plan.by_top_p = filter.top_p < 1.0F && plan.all.weight > 0;
  plan.last_bin = kBins - 1;
  plan.listed = plan.all.count;
  if (plan.by_top_k) {
    plan.top_k = FindBin(bins, {false, static_cast<uint64_t>(filter.top_k)}, search);
    plan.last_bin = plan.top_k.bin;
    plan.listed = plan.top_k.before.count + plan.top_k.own.count;
  } else if (plan.by_top_p) {
    const Found found = FindBin(bins, TopPTarget(filter.top_p, plan.all.weight), search);
    plan.last_bin = found.bin;
    plan.listed = found.before.count + found.own.count;
  } else if (filter.min_p > 0.0F) {
    // A bin more than those that have it, for the rounding of the logarithm.
    const float last = fmaxf(-logf(filter.min_p) * kBinsPerUnit, 0.0F) + 1.0F;
    plan.last_bin = static_cast<int32_t>(fminf(last, static_cast<float>(kBins - 1)));
    plan.listed = TotalOf({bins.count, bins.weight, plan.last_bin + 1}, search).count;
  }
  if (plan.listed > capacity) plan.listed = -1;
  return plan;
}

struct VisitToList {
  float max;
  float temperature;
  int32_t last_bin;
  uint64_t* list;
  int32_t* next;
  __device__ bool Look(float logit) const {
    return BinOf(Below(logit, max, temperature)) <= last_bin;
  }
  __device__ void Take(float logit, uint32_t id) { list[AtomicAdd(next, 1)] = PlaceOf(logit, id); }
};

// Block (row, part): the part's ids of the bins that may be kept go to the row's list, in any
// order.
__global__ void FillList(
    const float* logits, int64_t width, int64_t num_tokens, RowFilters filters, RowCuts cuts) {
  __shared__ Search search;
  const int row = static_cast<int>(blockIdx.x);
  const int parts = static_cast<int>(gridDim.y);
  const Filter filter = FilterOf(filters, row);
  if (!filter.any) return;
  const Plan plan = PlanOf(filter, BinsOf(cuts, row), cuts.capacity, search);
  if (plan.listed < 0) return;
  VisitToList visit = {MaxOf(cuts, row, parts), filter.temperature, plan.last_bin,
                       cuts.list + row * cuts.capacity, cuts.next + row};
  VisitRow(logits + row * width, PartOf(num_tokens, static_cast<int>(blockIdx.y), parts), visit);
}

// The ids of a row that a block looks at.
struct Source {
  const float* logits;
  int64_t num_tokens;
  const uint64_t* list;
  int32_t listed;
  float max;
  float temperature;
};

// Those ids of one bin whose places begin with `prefix`, by the next digit.
struct VisitDigits {
  float max;
  float temperature;
  int32_t in_bin;
  uint64_t prefix;
  int shift;
  Adder adder;
  __device__ bool Look(float logit) const {
    return BinOf(Below(logit, max, temperature)) == in_bin;
  }
  __device__ void Take(float logit, uint32_t id) {
    const uint64_t place = PlaceOf(logit, id);
    const uint64_t digits = place >> shift;
    if (digits >> kDigitBits != prefix) return;
    adder.Add(static_cast<int>(digits % kDigits), WeightOf(Below(logit, max, temperature)));
  }
};

// The last of those ids of one bin whose places begin with `prefix`.
struct VisitLast {
  float max;
  float temperature;
  int32_t in_bin;
  uint64_t prefix;
  int shift;
  uint64_t last = 0;
  __device__ bool Look(float logit) const {
    return BinOf(Below(logit, max, temperature)) == in_bin;
  }
  __device__ void Take(float logit, uint32_t id) {
    const uint64_t place = PlaceOf(logit, id);
    if (place >> shift == prefix && place > last) last = place;
  }
};

template <typename Visit>
__device__ void VisitSource(const Source& source, Visit& visit) {
  if (source.listed >= 0) {
    VisitList(source.list, {0, source.listed}, visit);
  } else {
    VisitRow(source.logits, {0, source.num_tokens}, visit);
  }
}

// All threads get the result.
__device__ uint64_t BlockMax64(uint64_t value, Search& search) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    const uint32_t low = ShuffleXor(static_cast<uint32_t>(value), mask);
    const uint32_t high = ShuffleXor(static_cast<uint32_t>(value >> 32), mask);
    const uint64_t other = uint64_t{high} << 32 | low;
    if (other > value) value = other;
  }
  __syncthreads();
  if (LaneId() == 0) search.warp[WarpId()].weight = value;
  __syncthreads();
  for (int w = 0; w < static_cast<int>(blockDim.x) / kWarp; ++w) {
    if (search.warp[w].weight > value) value = search.warp[w].weight;
  }
  return value;
}

struct DigitSums {
  int32_t count[kDigits];
  uint64_t weight[kDigits];
};

struct Cut {
  uint64_t last;
  Tally kept;  // of the bin
};

// The last id of a bin that is kept: that with which number or weight of the bin's ids reach
// the target.
__device__ Cut
CutBin(const Source& source, int32_t bin, Target target, DigitSums& sums, Search& search) {
  uint64_t prefix = 0;
  Tally before = {0, 0};
  for (int shift = 64 - kDigitBits;; shift -= kDigitBits) {
    for (int d = static_cast<int>(threadIdx.x); d < kDigits; d += static_cast<int>(blockDim.x)) {
      sums.count[d] = 0;
      sums.weight[d] = 0;
    }
    __syncthreads();
    VisitDigits visit = {source.max, source.temperature,       bin, prefix,
                         shift,      {sums.count, sums.weight}};
    VisitSource(source, visit);
    visit.adder.Flush();
    __syncthreads();
    const Found found = FindBin({sums.count, sums.weight, kDigits},
                                {target.by_weight, target.at - target.Of(before)}, search);
    before = Plus(before, found.before);
    prefix = prefix << kDigitBits | static_cast<uint64_t>(found.bin);
    const Tally after = Plus(before, found.own);
    if (shift == 0) return {prefix, after};
    if (found.own.count == 1 || (!target.by_weight && target.at == target.Of(after))) {
      // All that are left are kept. Ids of later bins may begin alike, so the last is looked for.
      VisitLast visit_last = {source.max, source.temperature, bin, prefix, shift};
      VisitSource(source, visit_last);
      return {BlockMax64(visit_last.last, search), after};
    }
  }
}

// Block (row): the row's cut.
__global__ void FindCut(const float* logits,
                        int64_t width,
                        int64_t num_tokens,
                        int parts,
                        RowFilters filters,
                        RowCuts cuts) {
  __shared__ Search search;
  __shared__ DigitSums sums;
  const int row = static_cast<int>(blockIdx.x);
  const Filter filter = FilterOf(filters, row);
  RowCut cut;
  if (!filter.any) {
    if (threadIdx.x == 0) cuts.cut[row] = cut;
    return;
  }
  const Bins bins = BinsOf(cuts, row);
  const Plan plan = PlanOf(filter, bins, cuts.capacity, search);
  const Source source = {
      logits + row * width,    num_tokens,        cuts.list + row * cuts.capacity, plan.listed,
      MaxOf(cuts, row, parts), filter.temperature};
  uint64_t total = plan.all.weight;
  if (plan.by_top_k) {
    const Tally before = plan.top_k.before;
    const auto at = static_cast<uint64_t>(filter.top_k - before.count);
    const Cut top_k = CutBin(source, plan.top_k.bin, {false, at}, sums, search);
    cut.last = top_k.last;
    total = before.weight + top_k.kept.weight;
  }
  if (plan.by_top_p && total > 0) {
    const Target target = TopPTarget(filter.top_p, total);
    const Found found = FindBin(bins, target, search);
    const Target in_bin = {true, target.at - found.before.weight};
    cut.last = CutBin(source, found.bin, in_bin, sums, search).last;
  }
  if (threadIdx.x != 0) return;
  cut.weight = plan.all.weight;
  cut.max = source.max;
  cut.listed = plan.listed;
  cuts.cut[row] = cut;
}

}  // namespace

RowCuts::RowCuts(Arena& arena, int64_t rows, int64_t width)
    : capacity(std::min(width, kListCapacity)) {
  static_assert(sizeof(RowCut) == 3 * sizeof(uint64_t));
  cut = reinterpret_cast<RowCut*>(arena.Allocate(DType::kU64, {rows, 3}).as<uint64_t>());
  list = arena.Allocate(DType::kU64, {rows, capacity}).as<uint64_t>();
  part_max = arena.Allocate(DType::kF32, {rows, kMaxParts}).as<float>();
  bin_count = arena.Allocate(DType::kI32, {rows, kBins}).as<int32_t>();
  bin_weight = arena.Allocate(DType::kU64, {rows, kBins}).as<uint64_t>();
  next = arena.Allocate(DType::kI32, {rows}).as<int32_t>();
}

int64_t RowCuts::BytesOfRow(int64_t width) {
  constexpr int64_t kFixed = sizeof(RowCut) + kMaxParts * sizeof(float) +
                             kBins * (sizeof(int32_t) + sizeof(uint64_t)) + sizeof(int32_t);
  return kFixed + std::min(width, kListCapacity) * static_cast<int64_t>(sizeof(uint64_t));
}

RowGrid::RowGrid(int64_t rows, int64_t num_tokens, const Queue& queue) {
  constexpr int64_t kPartTokens = 4096;  // fewer are not worth a block
  constexpr int64_t kThreadTokens = 8;
  const int64_t wanted = 2 * queue.num_multiprocessors() / std::max<int64_t>(1, rows);
  const int64_t useful = num_tokens / kPartTokens;
  parts = static_cast<int>(std::clamp<int64_t>(std::min(wanted, useful), 1, kMaxParts));
  threads = static_cast<int>(
      std::clamp<int64_t>(num_tokens / kThreadTokens / kWarp * kWarp, kWarp, kMaxThreads));
}

void FindRowCuts(TensorView logits,
                 int64_t num_tokens,
                 const RowFilters& filters,
                 const RowCuts& cuts,
                 Queue& queue) {
  const int64_t width = logits.dim(1);
  DS_CHECK(num_tokens <= width && num_tokens <= kMaxTokens)
      << num_tokens << " ids of " << logits.ToString() << "; at most " << kMaxTokens;
  const RowGrid grid(logits.dim(0), num_tokens, queue);
  const auto rows = static_cast<unsigned int>(logits.dim(0));
  const dim3 blocks(rows, static_cast<unsigned int>(grid.parts));
  const dim3 threads(static_cast<unsigned int>(grid.threads));
  const float* x = logits.as<float>();
  Launch<&FindMax>(queue, blocks, threads, 0, x, width, num_tokens, filters, cuts);
  Launch<&FillBins>(queue, blocks, threads, 0, x, width, num_tokens, filters, cuts);
  Launch<&FillList>(queue, blocks, threads, 0, x, width, num_tokens, filters, cuts);
  Launch<&FindCut>(queue, dim3(rows), threads, 0, x, width, num_tokens, grid.parts, filters, cuts);
}

}  // namespace deltaserve::cuda
