#include "worker/cache/kv_cache.h"

#include "kernels/base/status_macros.h"
#include "kernels/ops.h"

namespace deltaserve {

size_t KvCacheShape::bytes_per_block() const {
  return static_cast<size_t>(num_layers * 2 * num_kv_heads * kBlockTokens * head_dim) *
         DTypeSize(dtype);
}

absl::StatusOr<KvCache> KvCache::Create(Device& device, const KvCacheShape& shape) {
  KvCache cache;
  DS_CHECK(shape.dtype == device.numerics().kv) << DTypeName(shape.dtype);
  cache.shape_ = shape;
  const size_t bytes = shape.bytes_per_block() * static_cast<size_t>(shape.num_blocks);
  DS_ASSIGN_OR_RETURN(cache.memory_, device.Allocate(bytes, MemoryKind::kDevice));
  const int64_t rows = shape.num_layers * 2 * shape.num_blocks;
  TensorView all =
      cache.memory_.View(shape.dtype, {rows, shape.num_kv_heads, kBlockTokens, shape.head_dim});
  for (int64_t layer = 0; layer < shape.num_layers; ++layer) {
    cache.keys_.push_back(all.Rows(2 * layer * shape.num_blocks, shape.num_blocks));
    cache.values_.push_back(all.Rows((2 * layer + 1) * shape.num_blocks, shape.num_blocks));
  }
  return cache;
}

}  // namespace deltaserve
