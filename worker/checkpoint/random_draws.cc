#include "worker/checkpoint/random_draws.h"

#include <algorithm>

#include "worker/checkpoint/random_values.h"

namespace deltaserve {
namespace {

// Elements [first, first + count) of a stored tensor, which one change, or none, is made to.
RandomDraw DrawOf(uint64_t key, const StoredTensor& tensor, int64_t first, int64_t count) {
  RandomDraw draw{.args = {.key = key,
                           .first = first,
                           .mean = tensor.values.mean,
                           .deviation = tensor.values.deviation},
                  .rows = 1,
                  .columns = count};
  const int64_t row = first / (NumElements(tensor.shape) / tensor.shape[0]);
  for (const RowChange& change : tensor.values.changes) {
    if (row < change.begin || row >= change.end) continue;
    draw.args.scale = change.scale;
    draw.args.offset = change.offset;
  }
  return draw;
}

// The first element after `first`, at most `end`, to which other changes are made.
int64_t EndOfChange(const StoredTensor& tensor, int64_t first, int64_t end) {
  const int64_t row_size = NumElements(tensor.shape) / tensor.shape[0];
  for (const RowChange& change : tensor.values.changes) {
    for (const int64_t row : {change.begin, change.end}) {
      if (row * row_size > first) end = std::min(end, row * row_size);
    }
  }
  return end;
}

// Makes `next` more rows of `draw` where it can.
bool Joins(const RandomDraw& next, RandomDraw& draw) {
  const FillNormalArgs& a = draw.args;
  const FillNormalArgs& b = next.args;
  if (b.key != a.key || b.scale != a.scale || b.offset != a.offset ||
      next.columns != draw.columns || next.to != draw.to + draw.rows * draw.columns) {
    return false;
  }
  const int64_t distance = b.first - a.first;
  if (draw.rows > 1 && distance != draw.rows * a.stride) return false;
  if (draw.rows == 1) draw.args.stride = distance;
  ++draw.rows;
  return true;
}

}  // namespace

std::vector<RandomDraw> PlanDraws(uint64_t seed,
                                  const std::vector<StoredTensor>& stored,
                                  const std::vector<ByteRange>& ranges) {
  std::vector<uint64_t> keys;
  for (const StoredTensor& tensor : stored) {
    if (tensor.values.kind != RandomValues::Kind::kNormal) return {};
    keys.push_back(RandomKey(seed, tensor.name));
  }
  std::vector<RandomDraw> draws;
  for (const ByteRange& range : ranges) {
    const StoredTensor& tensor = stored[static_cast<size_t>(range.stored)];
    const auto size = static_cast<int64_t>(DTypeSize(tensor.dtype));
    const int64_t begin = range.source_offset / size;
    const int64_t end = begin + range.bytes / size;
    for (int64_t first = begin; first < end;) {
      const int64_t stop = EndOfChange(tensor, first, end);
      RandomDraw draw =
          DrawOf(keys[static_cast<size_t>(range.stored)], tensor, first, stop - first);
      draw.to = range.destination_offset / size + first - begin;
      if (draws.empty() || !Joins(draw, draws.back())) draws.push_back(draw);
      first = stop;
    }
  }
  return draws;
}

}  // namespace deltaserve
