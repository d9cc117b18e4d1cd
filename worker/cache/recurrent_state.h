#pragma once

// RecurrentState: the conv and delta-rule states of every linear-attention layer of this rank, by
// state index.

#include <vector>

#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "kernels/tensor/tensor_view.h"

namespace deltaserve {

struct RecurrentStateShape {
  int64_t num_layers = 0;  // linear-attention layers
  int64_t num_states = 0;
  int64_t conv_rows = 0;        // kernel - 1
  int64_t conv_channels = 0;    // local
  int64_t num_value_heads = 0;  // local
  int64_t key_head_dim = 0;
  int64_t value_head_dim = 0;

  // Bytes of one state over all layers.
  size_t bytes_per_state() const;
};

// Memory only; a state must be zeroed when its index is given to a new sequence. Engine thread.
class RecurrentState {
 public:
  static absl::StatusOr<RecurrentState> Create(Device& device, const RecurrentStateShape& shape);

  // `layer` counts linear-attention layers only.
  TensorView conv(int64_t layer) const {  // f32 [num_states, conv_rows, conv_channels]
    return conv_[static_cast<size_t>(layer)];
  }
  TensorView recurrent(int64_t layer) const {  // f32 [num_states, Hv, dk, dv]
    return recurrent_[static_cast<size_t>(layer)];
  }
  const RecurrentStateShape& shape() const { return shape_; }

  // Enqueues zeroing of one state in all layers.
  void Zero(Device& device, int64_t state) const;

 private:
  RecurrentStateShape shape_;
  Buffer memory_;
  std::vector<TensorView> conv_, recurrent_;
};

}  // namespace deltaserve
