#include <algorithm>
#include <array>

#include "kernels/base/check.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_cut.h"
#include "kernels/cuda/row_order.h"
#include "kernels/cuda/sample.h"
#include "kernels/random.h"

namespace deltaserve::cuda {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int32_t kNoId = 0x7fffffff;

struct Choice {
  float value = -INFINITY;
  int32_t id = kNoId;

  __device__ void Offer(float other, int32_t other_id) {
    if (other > value || (other == value && other_id < id)) {
      value = other;
      id = other_id;
    }
  }
};

__device__ Choice WarpBest(Choice choice) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    const float value = ShuffleXor(choice.value, mask);
    const int32_t id = ShuffleXor(choice.id, mask);
    choice.Offer(value, id);
  }
  return choice;
}

// What is chosen of every row.
struct Draw {
  const float* logits;
  int64_t width;
  int64_t first_id;  // of logits[0]
  int64_t num_here;  // ids that may be chosen: logits[0 .. num_here - 1]
  const float* temperature;
  const float* min_p;
  const uint64_t* seed;
  const uint32_t* sample_index;
  const uint32_t* token_index;
  const RowCut* cut;     // null: nothing is filtered
  const uint64_t* list;  // [rows, capacity]
  int64_t capacity;
};

// 1e-5 above GumbelOfWord(word) at most, and never below it: in f32, the logarithm of u from the
// end of (0, 1) that is nearer.
__device__ float GumbelBound(uint32_t word) {
  constexpr float kUnit = 0x1p-32F;
  const float u = (static_cast<float>(word) + 0.5F) * kUnit;
  const float rest = (static_cast<float>(~word) + 0.5F) * kUnit;  // 1 - u
  const float minus_log = word < 0x80000000U ? -logf(u) : -log1pf(-rest);
  return 5e-6F - logf(minus_log);
}

constexpr float kLargestGumbel = 23.0F;  // -log(-log(1 - 2^-33)) is 22.9

// The best of the ids that a thread is shown. Noise is costly: it is drawn only for an id whose
// value may reach the best so far (rounding keeps order, so nothing else can).
struct VisitDraw {
  float temperature;
  float min_p;  // 0 where nothing is filtered
  float max;
  uint64_t last;
  uint32_t first_id;
  uint64_t seed;
  uint32_t sample_index;
  uint32_t token_index;
  uint32_t group = ~0U;
  uint32_t words[4] = {};
  Choice best = {};

  __device__ bool Kept(float logit, uint32_t index) const {
    if (last != ~uint64_t{0} && PlaceOf(logit, index) > last) return false;
    return min_p <= 0.0F || logit == max || !(expf(-Below(logit, max, temperature)) < min_p);
  }

  __device__ uint32_t WordOf(uint32_t id) {
    if (id / 4 != group) {
      group = id / 4;
      const std::array<uint32_t, 4> four = TokenWords(seed, sample_index, token_index, group);
#pragma unroll
      for (int i = 0; i < 4; ++i) words[i] = four[static_cast<size_t>(i)];
    }
    const uint32_t low = (id & 1U) != 0 ? words[1] : words[0];
    const uint32_t high = (id & 1U) != 0 ? words[3] : words[2];
    return (id & 2U) != 0 ? high : low;
  }

  __device__ bool Look(float logit) const {
    if (temperature == 0.0F) return logit >= best.value;
    return logit / temperature + kLargestGumbel >= best.value;
  }

  __device__ void Take(float logit, uint32_t index) {
    const uint32_t id = first_id + index;
    if (temperature == 0.0F) {
      best.Offer(logit, static_cast<int32_t>(id));
      return;
    }
    const float scaled = logit / temperature;
    if (scaled + kLargestGumbel < best.value || !Kept(logit, index)) return;
    const uint32_t word = WordOf(id);
    if (scaled + GumbelBound(word) < best.value) return;
    best.Offer(scaled + GumbelOfWord(word), static_cast<int32_t>(id));
  }
};

// Block (row, part): the best of the part, of what is kept, to value and id [rows, parts].
__global__ void __launch_bounds__(kMaxThreads) BestOfPart(Draw draw, float* value, int32_t* id) {
  __shared__ Choice shared[kMaxThreads / kWarp];
  const int row = static_cast<int>(blockIdx.x);
  const int part = static_cast<int>(blockIdx.y);
  const int parts = static_cast<int>(gridDim.y);
  RowCut cut;
  if (draw.cut != nullptr) cut = draw.cut[row];
  VisitDraw visit = {.temperature = draw.temperature[row],
                     .min_p = draw.cut != nullptr ? draw.min_p[row] : 0.0F,
                     .max = cut.max,
                     .last = cut.last,
                     .first_id = static_cast<uint32_t>(draw.first_id),
                     .seed = draw.seed[row],
                     .sample_index = draw.sample_index[row],
                     .token_index = draw.token_index[row]};
  if (cut.listed >= 0) {
    VisitList(draw.list + row * draw.capacity, PartOf(cut.listed, part, parts), visit);
  } else {
    VisitRow(draw.logits + row * draw.width, PartOf(draw.num_here, part, parts), visit);
  }
  const Choice best = WarpBest(visit.best);
  if (LaneId() == 0) {
    shared[WarpId()].value = best.value;
    shared[WarpId()].id = best.id;
  }
  __syncthreads();
  if (WarpId() != 0) return;
  Choice all;
  if (LaneId() < static_cast<int>(blockDim.x) / kWarp) all = shared[LaneId()];
  all = WarpBest(all);
  if (LaneId() != 0) return;
  value[row * parts + part] = all.value;
  id[row * parts + part] = all.id;
}

// Block (row), one warp: the best of the row's parts.
__global__ void BestOfParts(const float* value, const int32_t* part_id, int parts, int32_t* id) {
  const int row = static_cast<int>(blockIdx.x);
  Choice best;
  if (LaneId() < parts) {
    best.Offer(value[row * parts + LaneId()], part_id[row * parts + LaneId()]);
  }
  best = WarpBest(best);
  if (LaneId() == 0) id[row] = best.id;
}

Draw DrawOf(TensorView logits, int64_t first_id, int64_t num_tokens, const SampleParams& params) {
  const int64_t rows = logits.dim(0);
  const int64_t width = logits.dim(1);
  DS_CHECK(params.temperature.numel() == rows && params.top_k.numel() == rows &&
           params.top_p.numel() == rows && params.min_p.numel() == rows &&
           params.seed.numel() == rows && params.sample_index.numel() == rows &&
           params.token_index.numel() == rows)
      << params.temperature.ToString() << " for " << logits.ToString();
  return {.logits = logits.as<float>(),
          .width = width,
          .first_id = first_id,
          .num_here = std::clamp<int64_t>(num_tokens - first_id, 0, width),
          .temperature = params.temperature.as<float>(),
          .min_p = params.min_p.as<float>(),
          .seed = params.seed.as<uint64_t>(),
          .sample_index = params.sample_index.as<uint32_t>(),
          .token_index = params.token_index.as<uint32_t>(),
          .cut = nullptr,
          .list = nullptr,
          .capacity = 0};
}

}  // namespace

void SampleLocal(const SampleLocalArgs& args, Queue& queue) {
  const int64_t rows = args.logits.dim(0);
  DS_CHECK(args.value.numel() == rows && args.id.numel() == rows) << args.logits.ToString();
  const Draw draw = DrawOf(args.logits, args.first_id, args.num_tokens, *args.params);
  const int64_t threads =
      std::clamp<int64_t>(draw.num_here / 8 / kWarp * kWarp, kWarp, kMaxThreads);
  Launch<&BestOfPart>(queue, dim3(static_cast<unsigned int>(rows)),
                      dim3(static_cast<unsigned int>(threads)), 0, draw, args.value.as<float>(),
                      args.id.as<int32_t>());
}

int64_t SampleScratch(int64_t vocab_rows) {
  constexpr int64_t kParts = kMaxParts * (sizeof(float) + sizeof(int32_t));
  return RowCuts::BytesOfRow(vocab_rows) + kParts;
}

void Sample(const SampleArgs& args, Arena& arena, Queue& queue) {
  const int64_t rows = args.logits.dim(0);
  const int64_t width = args.logits.dim(1);
  DS_CHECK(args.id.numel() == rows && args.num_tokens <= width) << args.logits.ToString();
  const ArenaScope scope(arena);
  const RowCuts cuts(arena, rows, width);
  auto* value = arena.Allocate(DType::kF32, {rows, kMaxParts}).as<float>();
  auto* part_id = arena.Allocate(DType::kI32, {rows, kMaxParts}).as<int32_t>();
  const SampleParams& params = *args.params;
  Draw draw = DrawOf(args.logits, 0, args.num_tokens, params);
  FindRowCuts(args.logits, args.num_tokens,
              {.temperature = draw.temperature,
               .top_k = params.top_k.as<int32_t>(),
               .top_p = params.top_p.as<float>(),
               .min_p = draw.min_p},
              cuts, queue);
  draw.cut = cuts.cut;
  draw.list = cuts.list;
  draw.capacity = cuts.capacity;
  const RowGrid grid(rows, args.num_tokens, queue);
  const auto blocks = static_cast<unsigned int>(rows);
  const auto parts = static_cast<unsigned int>(grid.parts);
  Launch<&BestOfPart>(queue, dim3(blocks, parts), dim3(static_cast<unsigned int>(grid.threads)), 0,
                      draw, value, grid.parts == 1 ? args.id.as<int32_t>() : part_id);
  if (grid.parts == 1) return;
  Launch<&BestOfParts>(queue, dim3(blocks), dim3(kWarp), 0, static_cast<const float*>(value),
                       static_cast<const int32_t*>(part_id), grid.parts, args.id.as<int32_t>());
}

}  // namespace deltaserve::cuda
