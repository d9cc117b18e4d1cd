#pragma once

// Layer: one mixer or feed-forward of a decoder layer, on this rank's shard.

#include "kernels/device.h"
#include "kernels/ops.h"
#include "worker/cache/kv_cache.h"
#include "worker/cache/recurrent_state.h"
#include "worker/comm/communicator.h"

namespace deltaserve {

// What a forward pass works with; all owned by the Executor.
struct ExecContext {
  Device& device;
  Communicator& comm;
  KvCache& kv;
  RecurrentState& state;
  Arena& arena;
  // Of Communicator::AllocateExchange: reduction [the most rows of a step, hidden].
  TensorView exchange;
};

// Engine thread. Holds weights of local sizes; knows nothing of ranks.
class Layer {
 public:
  virtual ~Layer() = default;

  // x: act [rows, hidden], normed; out: reduction [rows, hidden], not x. (The words of ops.h.)
  virtual void Forward(const RowBatch& rows,
                       TensorView x,
                       ExecContext& context,
                       TensorView out) = 0;

  // True where `out` must be summed over ranks; false where every rank computes the whole.
  virtual bool output_is_partial() const = 0;
};

}  // namespace deltaserve
