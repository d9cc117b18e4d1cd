#include <algorithm>

#include "kernels/base/check.h"
#include "kernels/cuda/edit_logits.h"
#include "kernels/cuda/launch.h"

namespace deltaserve::cuda {
namespace {

constexpr int kThreads = 256;

struct PenalizeViews {
  float* logits;
  const int32_t* row;
  const int32_t* id;
  const int32_t* seen;
  const int32_t* count;
  const float* bias;
  const float* repetition;
  const float* frequency;
  const float* presence;
  int64_t entries;
  int64_t rows;
  int64_t width;
};

// One thread an entry.
__global__ void PenalizeEntries(PenalizeViews v) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= v.entries) return;
  const int32_t row = v.row[i];
  const int32_t id = v.id[i];
  Require(row >= 0 && row < v.rows && id >= 0 && id < v.width);
  float* at = v.logits + row * v.width + id;
  float x = *at + v.bias[i];
  if (v.seen[i] != 0) {
    const float repetition = v.repetition[row];
    x = x > 0 ? x / repetition : x * repetition;
  }
  const int32_t count = v.count[i];
  if (count > 0) {
    x -= MultiplyRounded(v.frequency[row], static_cast<float>(count)) + v.presence[row];
  }
  *at = x;
}

// Block (x, y): kThreads ids of the y-th masked row; a warp shares a word of the mask.
__global__ void MaskRows(float* logits,
                         const int32_t* row,
                         const uint32_t* mask,
                         int64_t rows,
                         int64_t width,
                         int64_t words) {
  const int64_t id = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (id >= width || id >= 32 * words) return;
  const int32_t r = row[blockIdx.y];
  Require(r >= 0 && r < rows);
  const uint32_t word = mask[int64_t{blockIdx.y} * words + id / 32];
  if ((word >> (id % 32) & 1U) == 0) logits[r * width + id] = -INFINITY;
}

}  // namespace

void Penalize(const PenalizeArgs& args, Queue& queue) {
  const int64_t entries = args.id.numel();
  const int64_t rows = args.logits.dim(0);
  DS_CHECK(args.row.numel() == entries && args.seen.numel() == entries &&
           args.count.numel() == entries && args.bias.numel() == entries)
      << args.id.ToString();
  DS_CHECK(args.repetition.numel() == rows && args.frequency.numel() == rows &&
           args.presence.numel() == rows)
      << args.logits.ToString() << ", " << args.repetition.ToString();
  const PenalizeViews views = {.logits = args.logits.as<float>(),
                               .row = args.row.as<int32_t>(),
                               .id = args.id.as<int32_t>(),
                               .seen = args.seen.as<int32_t>(),
                               .count = args.count.as<int32_t>(),
                               .bias = args.bias.as<float>(),
                               .repetition = args.repetition.as<float>(),
                               .frequency = args.frequency.as<float>(),
                               .presence = args.presence.as<float>(),
                               .entries = entries,
                               .rows = rows,
                               .width = args.logits.dim(1)};
  Launch<&PenalizeEntries>(queue, dim3(Blocks(entries, kThreads)), dim3(kThreads), 0, views);
}

void MaskLogits(const MaskLogitsArgs& args, Queue& queue) {
  const int64_t masked_rows = args.row.numel();
  const int64_t width = args.logits.dim(1);
  const int64_t words = args.mask.dim(1);
  DS_CHECK(args.mask.dim(0) == masked_rows)
      << args.mask.ToString() << " for " << masked_rows << " rows";
  const int64_t masked = std::min(width, 32 * words);
  Launch<&MaskRows>(
      queue, dim3(Blocks(masked, kThreads), static_cast<unsigned int>(masked_rows)), dim3(kThreads),
      0, args.logits.as<float>(), static_cast<const int32_t*>(args.row.as<int32_t>()),
      static_cast<const uint32_t*>(args.mask.as<uint32_t>()), args.logits.dim(0), width, words);
}

}  // namespace deltaserve::cuda
