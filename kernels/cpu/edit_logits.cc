#include "kernels/cpu/edit_logits.h"

#include <algorithm>
#include <limits>

#include "kernels/base/check.h"
#include "kernels/cpu/parallel.h"

namespace deltaserve::cpu {

void Penalize(const PenalizeArgs& args) {
  const int64_t entries = args.id.numel();
  const int64_t rows = args.logits.dim(0);
  const int64_t width = args.logits.dim(1);
  DS_CHECK(args.row.numel() == entries && args.seen.numel() == entries &&
           args.count.numel() == entries && args.bias.numel() == entries)
      << args.id.ToString();
  DS_CHECK(args.repetition.numel() == rows && args.frequency.numel() == rows &&
           args.presence.numel() == rows)
      << args.logits.ToString() << ", " << args.repetition.ToString();
  const float* repetition = args.repetition.as<float>();
  for (int64_t i = 0; i < entries; ++i) {
    const int32_t row = args.row.as<int32_t>()[i];
    const int32_t id = args.id.as<int32_t>()[i];
    DS_CHECK(row >= 0 && row < rows && id >= 0 && id < width) << "row " << row << ", id " << id;
    float x = args.logits.as<float>()[row * width + id] + args.bias.as<float>()[i];
    if (args.seen.as<int32_t>()[i] != 0) x = x > 0 ? x / repetition[row] : x * repetition[row];
    const int32_t count = args.count.as<int32_t>()[i];
    if (count > 0) {
      x -= args.frequency.as<float>()[row] * static_cast<float>(count) +
           args.presence.as<float>()[row];
    }
    args.logits.as<float>()[row * width + id] = x;
  }
}

void MaskLogits(const MaskLogitsArgs& args, ThreadPool& pool) {
  const int64_t rows = args.row.numel();
  const int64_t width = args.logits.dim(1);
  const int64_t words = args.mask.dim(1);
  DS_CHECK(args.mask.dim(0) == rows) << args.mask.ToString() << " for " << rows << " rows";
  const int64_t masked = std::min(width, 32 * words);
  ParallelFor(pool, rows, 1, masked, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int32_t row = args.row.as<int32_t>()[i];
      DS_CHECK(row >= 0 && row < args.logits.dim(0)) << "row " << row;
      float* logits = args.logits.as<float>() + row * width;
      const uint32_t* mask = args.mask.as<uint32_t>() + i * words;
      for (int64_t id = 0; id < masked; ++id) {
        const bool keep = (mask[id / 32] >> (id % 32) & 1) != 0;
        logits[id] = keep ? logits[id] : -std::numeric_limits<float>::infinity();
      }
    }
  });
}

}  // namespace deltaserve::cpu
