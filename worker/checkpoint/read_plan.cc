#include "worker/checkpoint/read_plan.h"

#include <algorithm>
#include <utility>

namespace deltaserve {
namespace {

std::vector<ByteRange> CutAndSort(const std::vector<ByteRange>& ranges) {
  std::vector<ByteRange> pieces;
  pieces.reserve(ranges.size());
  for (ByteRange range : ranges) {
    while (range.bytes > 0) {
      ByteRange piece = range;
      piece.bytes = std::min(range.bytes, kMostRunBytes);
      pieces.push_back(piece);
      range.source_offset += piece.bytes;
      range.destination_offset += piece.bytes;
      range.bytes -= piece.bytes;
    }
  }
  std::sort(pieces.begin(), pieces.end(), [](const ByteRange& a, const ByteRange& b) {
    return std::pair(a.stored, a.source_offset) < std::pair(b.stored, b.source_offset);
  });
  return pieces;
}

}  // namespace

ReadPlan PlanReads(const std::vector<ByteRange>& ranges) {
  ReadPlan plan;
  plan.ranges = CutAndSort(ranges);
  for (size_t i = 0; i < plan.ranges.size(); ++i) {
    const ByteRange& range = plan.ranges[i];
    const int64_t end = range.source_offset + range.bytes;
    plan.needed_bytes += range.bytes;
    if (!plan.runs.empty()) {
      ReadRun& last = plan.runs.back();
      if (last.stored == range.stored &&
          range.source_offset - (last.offset + last.bytes) < kSmallGap &&
          end - last.offset <= kMostRunBytes) {
        last.bytes = std::max(last.bytes, end - last.offset);
        ++last.num_ranges;
        continue;
      }
    }
    plan.runs.push_back({range.stored, range.source_offset, range.bytes, i, 1});
  }
  for (const ReadRun& run : plan.runs) plan.read_bytes += run.bytes;
  return plan;
}

}  // namespace deltaserve
