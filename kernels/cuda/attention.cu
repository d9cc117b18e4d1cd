#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_parts.h"
#include "kernels/cuda/launch.h"

namespace deltaserve::cuda {

AttentionParams CheckedParams(const AttentionArgs& args) {
  const RowBatch& rows = *args.rows;
  DS_CHECK_EQ(args.head_dim, kHeadDim);
  DS_CHECK(args.num_heads % args.num_kv_heads == 0)
      << args.num_heads << " heads on " << args.num_kv_heads << " KV heads";
  DS_CHECK(args.q.numel() == rows.num_rows * args.num_heads * kHeadDim &&
           args.out.numel() == args.q.numel() && args.qg.numel() == 2 * args.q.numel())
      << args.q.ToString() << " to " << args.out.ToString();
  CheckCache(args.k_cache, args.v_cache, args.num_kv_heads);
  return {.q = AlignedBf16Of(args.q),
          .qg = AlignedBf16Of(args.qg),
          .k_cache = AlignedBf16Of(args.k_cache),
          .v_cache = AlignedBf16Of(args.v_cache),
          .out = AlignedBf16Of(args.out),
          .positions = rows.positions.as<int32_t>(),
          .row_sequence = rows.row_sequence.as<int32_t>(),
          .row_begin = rows.row_begin.as<int32_t>(),
          .slot = rows.slot.as<int32_t>(),
          .block_table = rows.block_table.as<int32_t>(),
          .max_blocks = rows.block_table.dim(1),
          .num_heads = static_cast<int>(args.num_heads),
          .num_kv_heads = static_cast<int>(args.num_kv_heads)};
}

void Attention(const AttentionArgs& args, Arena& arena, Queue& queue) {
  if (args.rows->num_rows == 0) return;
  const AttentionParams params = CheckedParams(args);
  AttendDecodes(params, *args.rows, arena, queue);
  AttendChunks(params, *args.rows, queue);
}

}  // namespace deltaserve::cuda
