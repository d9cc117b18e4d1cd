#pragma once

// KvCache: the paged keys and values of every full-attention layer of this rank.

#include <vector>

#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "kernels/tensor/tensor_view.h"

namespace deltaserve {

struct KvCacheShape {
  int64_t num_layers = 0;  // full-attention layers
  int64_t num_blocks = 0;
  int64_t num_kv_heads = 0;  // local
  int64_t head_dim = 0;
  DType dtype = DType::kF32;  // Numerics::kv of the device

  // Bytes of keys and values of one block over all layers.
  size_t bytes_per_block() const;
};

// Memory only; who owns which block is BlockPool's matter. Engine thread.
class KvCache {
 public:
  static absl::StatusOr<KvCache> Create(Device& device, const KvCacheShape& shape);

  // kv [num_blocks, num_kv_heads, kBlockTokens, head_dim]; `layer` counts full-attention layers
  // only.
  TensorView keys(int64_t layer) const { return keys_[static_cast<size_t>(layer)]; }
  TensorView values(int64_t layer) const { return values_[static_cast<size_t>(layer)]; }
  const KvCacheShape& shape() const { return shape_; }

 private:
  KvCacheShape shape_;
  Buffer memory_;
  std::vector<TensorView> keys_, values_;
};

}  // namespace deltaserve
