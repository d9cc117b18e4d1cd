#include "worker/models/kept_shapes.h"

namespace deltaserve {

KvCacheShape KvShapeOf(const ModelConfig& config,
                       const LocalSizes& local,
                       const Numerics& numerics,
                       int64_t num_blocks) {
  return {.num_layers = config.num_layers_of(LayerType::kFullAttention),
          .num_blocks = num_blocks,
          .num_kv_heads = local.num_kv_heads,
          .head_dim = config.head_dim,
          .dtype = numerics.kv};
}

RecurrentStateShape StateShapeOf(const ModelConfig& config,
                                 const LocalSizes& local,
                                 int64_t num_states) {
  return {.num_layers = config.num_layers_of(LayerType::kLinearAttention),
          .num_states = num_states,
          .conv_rows = config.linear_conv_kernel_dim - 1,
          .conv_channels = 2 * local.linear_num_key_heads * config.linear_key_head_dim +
                           local.linear_num_value_heads * config.linear_value_head_dim,
          .num_value_heads = local.linear_num_value_heads,
          .key_head_dim = config.linear_key_head_dim,
          .value_head_dim = config.linear_value_head_dim};
}

}  // namespace deltaserve
