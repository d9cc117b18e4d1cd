#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_parts.h"
#include "kernels/cuda/launch.h"

namespace deltaserve::cuda {

void Attention(const AttentionArgs& args, Arena& arena, Queue& queue) {
  const RowBatch& rows = *args.rows;
  const int64_t n = rows.num_rows;
  DS_CHECK_EQ(args.head_dim, kHeadDim);
  DS_CHECK(args.num_heads % args.num_kv_heads == 0)
      << args.num_heads << " heads on " << args.num_kv_heads << " KV heads";
  DS_CHECK(args.q.numel() == n * args.num_heads * kHeadDim && args.out.numel() == args.q.numel() &&
           args.qg.numel() == 2 * args.q.numel())
      << args.q.ToString() << " to " << args.out.ToString();
  CheckCache(args.k_cache, args.v_cache, args.num_kv_heads);
  if (n == 0) return;
  const AttentionParams params{.q = AlignedBf16Of(args.q),
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
  AttendDecodes(params, rows, arena, queue);
  AttendChunks(params, rows, queue);
}

}  // namespace deltaserve::cuda
