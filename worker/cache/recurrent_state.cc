#include "worker/cache/recurrent_state.h"

#include "kernels/base/status_macros.h"

namespace deltaserve {
namespace {

int64_t ConvElements(const RecurrentStateShape& shape) {
  return shape.conv_rows * shape.conv_channels;
}

int64_t RecurrentElements(const RecurrentStateShape& shape) {
  return shape.num_value_heads * shape.key_head_dim * shape.value_head_dim;
}

}  // namespace

size_t RecurrentStateShape::bytes_per_state() const {
  return static_cast<size_t>(num_layers * (ConvElements(*this) + RecurrentElements(*this))) *
         sizeof(float);
}

absl::StatusOr<RecurrentState> RecurrentState::Create(Device& device,
                                                      const RecurrentStateShape& shape) {
  RecurrentState state;
  state.shape_ = shape;
  const size_t bytes = shape.bytes_per_state() * static_cast<size_t>(shape.num_states);
  DS_ASSIGN_OR_RETURN(state.memory_, device.Allocate(bytes, MemoryKind::kDevice));
  const int64_t total = static_cast<int64_t>(bytes / sizeof(float));
  const TensorView all = state.memory_.View(DType::kF32, {total});
  int64_t begin = 0;
  for (int64_t layer = 0; layer < shape.num_layers; ++layer) {
    const int64_t recurrent = shape.num_states * RecurrentElements(shape);
    state.recurrent_.push_back(all.Rows(begin, recurrent)
                                   .Reshape({shape.num_states, shape.num_value_heads,
                                             shape.key_head_dim, shape.value_head_dim}));
    begin += recurrent;
    const int64_t conv = shape.num_states * ConvElements(shape);
    state.conv_.push_back(
        all.Rows(begin, conv).Reshape({shape.num_states, shape.conv_rows, shape.conv_channels}));
    begin += conv;
  }
  device.Zero(all);
  return state;
}

void RecurrentState::Zero(Device& device, int64_t state) const {
  for (const TensorView& view : conv_) device.Zero(view.Rows(state, 1));
  for (const TensorView& view : recurrent_) device.Zero(view.Rows(state, 1));
}

}  // namespace deltaserve
