#pragma once

// LogProbs on a GPU. A row's bits depend on nothing but the row.

#include "kernels/ops.h"

namespace deltaserve::cuda {

class Queue;

// Rows of at most 2^19 ids, num_top at most 4096. An id that is none of the row's, as Sample gives
// it for a row without a number, has log-probability NaN and rank 0. Ids without a number come
// after all others.
void LogProbs(const LogProbsArgs& args, Arena& arena, Queue& queue);

}  // namespace deltaserve::cuda
