#pragma once

// Turns the byte ranges of one weight into reads of reasonable size.

#include <cstdint>
#include <vector>

#include "worker/checkpoint/shard_plan.h"

namespace deltaserve {

// One read of a stored tensor and the ranges that it brings.
struct ReadRun {
  int stored = 0;
  int64_t offset = 0;  // in the stored tensor
  int64_t bytes = 0;   // gaps between the ranges included
  size_t first_range = 0;
  size_t num_ranges = 0;
};

struct ReadPlan {
  std::vector<ByteRange> ranges;  // ascending by (stored, source_offset)
  std::vector<ReadRun> runs;
  int64_t needed_bytes = 0;  // of the ranges
  int64_t read_bytes = 0;    // of the runs
};

// Ranges that lie less than kSmallGap apart are read together with what is between them, since a
// read of a few bytes costs as much; longer ones are cut into runs of kMostRunBytes, so that
// several readers can share them.
inline constexpr int64_t kSmallGap = int64_t{64} << 10;
inline constexpr int64_t kMostRunBytes = int64_t{8} << 20;

ReadPlan PlanReads(const std::vector<ByteRange>& ranges);

}  // namespace deltaserve
