#include <algorithm>

#include "kernels/base/check.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/log_probs.h"
#include "kernels/cuda/row_cut.h"
#include "kernels/cuda/row_order.h"
#include "kernels/random.h"

namespace deltaserve::cuda {
namespace {

constexpr int64_t kMaxTop = 4096;

struct LogProbsViews {
  const float* logits;
  const int32_t* id;
  float* logprob;
  int32_t* rank;
  int32_t* top_id;
  float* top_logprob;
  const int32_t* named_begin;
  const int32_t* named_id;
  float* named_logprob;
  int64_t width;
  int64_t num_tokens;
  int64_t num_top;
  int64_t num_named;
};

struct VisitAbove {
  float own;
  int32_t above = 0;
  __device__ bool Look(float logit) {
    above += logit > own ? 1 : 0;
    return false;
  }
  __device__ void Take(float /*logit*/, uint32_t /*id*/) {}
};

struct VisitTop {
  uint64_t last;
  uint64_t* kept;
  int32_t* num_kept;
  __device__ bool Look(float logit) const { return OrderOf(logit) <= last >> 32; }
  __device__ void Take(float logit, uint32_t id) {
    const uint64_t place = PlaceOf(logit, id);
    if (place <= last) kept[AtomicAdd(num_kept, 1)] = place;
  }
};

// Block (row): everything of the row, whose cut leaves its num_top most likely.
__global__ void LogProbsOfRow(LogProbsViews v, RowCuts cuts) {
  __shared__ int32_t above;
  __shared__ int32_t num_kept;
  auto* kept = SharedMemory<uint64_t>();  // [num_top]
  const int row = static_cast<int>(blockIdx.x);
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  const float* logits = v.logits + row * v.width;
  const RowCut cut = cuts.cut[row];
  const double sum =
      static_cast<double>(cut.weight) / static_cast<double>(int64_t{1} << kWeightBits);
  const float log_sum =
      cut.weight == 0 ? NAN : static_cast<float>(static_cast<double>(cut.max) + PortableLog(sum));
  const int32_t id = v.id[row];
  const bool real = id >= 0 && id < v.num_tokens;
  if (thread == 0) {
    above = 0;
    num_kept = 0;
  }
  __syncthreads();
  VisitAbove visit = {real ? logits[id] : NAN};
  VisitRow(logits, {0, v.num_tokens}, visit);
  if (visit.above > 0) AtomicAdd(&above, visit.above);
  if (v.num_top > 0) {
    VisitTop top = {cut.last, kept, &num_kept};
    if (cut.listed >= 0) {
      VisitList(cuts.list + row * cuts.capacity, {0, cut.listed}, top);
    } else {
      VisitRow(logits, {0, v.num_tokens}, top);
    }
  }
  __syncthreads();
  if (thread == 0) {
    v.logprob[row] = visit.own - log_sum;
    v.rank[row] = real ? 1 + above : 0;
  }
  for (int i = thread; i < v.num_top; i += threads) {
    int64_t at = row * v.num_top;
    for (int j = 0; j < v.num_top; ++j) at += kept[j] < kept[i] ? 1 : 0;
    v.top_id[at] = static_cast<int32_t>(kept[i] & 0xffffffffU);
    v.top_logprob[at] = LogitOfOrder(static_cast<uint32_t>(kept[i] >> 32)) - log_sum;
  }
  const int32_t named_end = v.named_begin[row + 1];
  Require(named_end <= v.num_named);
  for (int32_t i = v.named_begin[row] + thread; i < named_end; i += threads) {
    const int32_t named = v.named_id[i];
    Require(named >= 0 && named < v.num_tokens);
    v.named_logprob[i] = logits[named] - log_sum;
  }
}

}  // namespace

void LogProbs(const LogProbsArgs& args, Arena& arena, Queue& queue) {
  const int64_t rows = args.logits.dim(0);
  const int64_t num_top = args.top_id.dim(1);
  DS_CHECK(args.id.numel() == rows && args.logprob.numel() == rows && args.rank.numel() == rows &&
           args.top_id.dim(0) == rows && args.top_logprob.numel() == args.top_id.numel())
      << args.logits.ToString() << ", " << args.top_id.ToString();
  DS_CHECK(args.named_begin.numel() == rows + 1 &&
           args.named_id.numel() == args.named_logprob.numel())
      << args.named_begin.ToString() << ", " << args.named_id.ToString();
  DS_CHECK(args.num_tokens <= args.logits.dim(1) && num_top <= args.num_tokens &&
           num_top <= kMaxTop)
      << args.top_id.ToString() << " of " << args.num_tokens << "; at most " << kMaxTop;
  const ArenaScope scope(arena);
  const RowCuts cuts(arena, rows, args.logits.dim(1));
  FindRowCuts(args.logits, args.num_tokens, {.first = static_cast<int32_t>(num_top)}, cuts, queue);
  const LogProbsViews views = {.logits = args.logits.as<float>(),
                               .id = args.id.as<int32_t>(),
                               .logprob = args.logprob.as<float>(),
                               .rank = args.rank.as<int32_t>(),
                               .top_id = args.top_id.as<int32_t>(),
                               .top_logprob = args.top_logprob.as<float>(),
                               .named_begin = args.named_begin.as<int32_t>(),
                               .named_id = args.named_id.as<int32_t>(),
                               .named_logprob = args.named_logprob.as<float>(),
                               .width = args.logits.dim(1),
                               .num_tokens = args.num_tokens,
                               .num_top = num_top,
                               .num_named = args.named_id.numel()};
  const RowGrid grid(rows, args.num_tokens, queue);
  Launch<&LogProbsOfRow>(
      queue, dim3(static_cast<unsigned int>(rows)), dim3(static_cast<unsigned int>(grid.threads)),
      static_cast<size_t>(std::max<int64_t>(1, num_top)) * sizeof(uint64_t), views, cuts);
}

}  // namespace deltaserve::cuda
