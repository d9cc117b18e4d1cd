#pragma once

// Ops that move rows: the arrays of a batch, the embedding gather, the choice of scored rows and
// the return of sampled ids.

#include "kernels/base/thread_pool.h"
#include "kernels/ops.h"

namespace deltaserve::cpu {

// See BuildRowsArgs.
void BuildRows(const BuildRowsArgs& args);

// See EmbedArgs.
void Embed(const EmbedArgs& args, ThreadPool& pool);

// See GatherRowsArgs.
void GatherRows(const GatherRowsArgs& args, ThreadPool& pool);

// See StoreSampledArgs.
void StoreSampled(const StoreSampledArgs& args);

}  // namespace deltaserve::cpu
