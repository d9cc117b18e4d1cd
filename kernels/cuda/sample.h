#pragma once

// SampleLocal and Sample on a GPU: the noise has the same bits as on every other device
// (kernels/random.h), and a row's token depends on nothing but the row. Parameters are read on the
// device.

#include "kernels/ops.h"

namespace deltaserve::cuda {

class Queue;

// Real ids of a row at most, here and of LogProbs: see row_order.h.
inline constexpr int64_t kMaxTokens = int64_t{1} << 19;

// One block a row, since there is no scratch to merge parts in.
void SampleLocal(const SampleLocalArgs& args, Queue& queue);

// Rows of at most kMaxTokens ids. Few rows are cut into parts, a block each.
void Sample(const SampleArgs& args, Arena& arena, Queue& queue);

// Bytes of the arena that a row takes.
int64_t SampleScratch(int64_t vocab_rows);

}  // namespace deltaserve::cuda
