#pragma once

// Random weights as the calls of an op by which a device draws them: a rank's part of a weight, by
// index, wherever it lies in the whole.

#include <cstdint>
#include <vector>

#include "kernels/ops.h"
#include "worker/checkpoint/shard_plan.h"
#include "worker/checkpoint/weight_spec.h"

namespace deltaserve {

// A call of Ops::FillNormal, whose out is `rows` rows of `columns` elements of the local weight
// from element `to`.
struct RandomDraw {
  FillNormalArgs args = {};
  int64_t to = 0;
  int64_t rows = 0;
  int64_t columns = 0;
};

// The draws that write what FillRandom (random_values.h) would, ascending in `to` and without
// overlap; ranges that lie at equal distances are one draw. `ranges`: ShardPlan::Ranges() in the
// dtype of `stored`, which is the same for all. Empty where one of them is not kNormal.
std::vector<RandomDraw> PlanDraws(uint64_t seed,
                                  const std::vector<StoredTensor>& stored,
                                  const std::vector<ByteRange>& ranges);

}  // namespace deltaserve
