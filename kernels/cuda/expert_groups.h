#pragma once

// The rows of each expert, found on the device: the host knows of the routing only how many pairs
// of a row and one of its experts there are.

#include <cstdint>

#include "kernels/tensor/arena.h"

namespace deltaserve::cuda {

class Queue;

// Up to `tile_rows` pairs of one expert.
struct ExpertTile {
  int32_t expert;  // of those held here
  int32_t begin;   // position in ExpertGroups::pairs
  int32_t count;
};

// Device memory of the arena that GroupByExpert was given. A pair is row * top_k + choice.
struct ExpertGroups {
  const int32_t* pairs = nullptr;      // those of experts held here, by expert and then by row
  const int32_t* begin = nullptr;      // [num_experts + 1], into `pairs`; the last is their number
  const ExpertTile* tiles = nullptr;   // in the order of `pairs`
  const int32_t* num_tiles = nullptr;  // [1]
  int64_t max_tiles = 0;               // what num_tiles cannot be more than, whatever the routing
  int64_t num_experts = 0;             // held here
};

// experts: i32 [rows, top_k], ids over all experts of the model; held are
// [first_expert, first_expert + num_experts), 1 to kMaxExperts. One launch for up to 1024 pairs,
// else three.
ExpertGroups GroupByExpert(const TensorView& experts,
                           int64_t first_expert,
                           int64_t num_experts,
                           int64_t tile_rows,
                           Arena& arena,
                           Queue& queue);

}  // namespace deltaserve::cuda
