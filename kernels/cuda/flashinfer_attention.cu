#include <algorithm>
#include <flashinfer/attention/default_prefill_params.cuh>
#include <flashinfer/attention/prefill.cuh>
#include <flashinfer/attention/variants.cuh>

#include "kernels/cuda/attention_params.h"
#include "kernels/cuda/flashinfer_attention.h"
#include "kernels/cuda/gated_merge.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/paged_tiles.h"

namespace deltaserve::cuda {
namespace {

// Blocks that a multiprocessor holds, by the shared memory of either kernel.
constexpr int64_t kBlocksPerMultiprocessor = 2;
constexpr float kScale = 0.0625F;  // head_dim^-0.5
static_assert(kHeadDim == 256);

// What the kernel reads, and lengths of their own: the block table stays where it is, so that the
// pages of a sequence do not end where those of the next begin.
struct TileParams
    : flashinfer::BatchPrefillPagedParams<__nv_bfloat16, __nv_bfloat16, __nv_bfloat16, int32_t> {
  const int32_t* num_positions = nullptr;

  __host__ __device__ uint32_t get_kv_len(uint32_t sequence) const {
    return static_cast<uint32_t>(num_positions[sequence]);
  }
};

// A plain softmax: no mask of its own, no window, no cap of scores, no slopes.
using Softmax2 = flashinfer::DefaultAttention<false, false, false, false>;

// What FlashInfer's dispatcher takes on sm_90 for 256 dimensions in bf16 and tiles of so many
// queries: 64 positions at a time, so that two blocks fit a multiprocessor.
template <uint32_t kTileQueries>
using TileTraits = flashinfer::KernelTraits<flashinfer::MaskMode::kCausal,
                                            kTileQueries,
                                            /*NUM_MMA_Q=*/1,
                                            /*NUM_MMA_KV=*/kTileQueries == 16 ? 1 : 4,
                                            kHeadDim / 16,
                                            kHeadDim / 16,
                                            /*NUM_WARPS_Q=*/kTileQueries == 16 ? 1 : 4,
                                            /*NUM_WARPS_KV=*/kTileQueries == 16 ? 4 : 1,
                                            flashinfer::PosEncodingMode::kNone,
                                            __nv_bfloat16,
                                            __nv_bfloat16,
                                            __nv_bfloat16,
                                            float,
                                            int32_t,
                                            Softmax2,
                                            flashinfer::kPrefillLauncherRepacksFp4>;

__nv_bfloat16* Theirs(const bf16* values) {
  return reinterpret_cast<__nv_bfloat16*>(const_cast<bf16*>(values));
}

template <uint32_t kTileQueries>
void AttendTiles(const AttentionParams& p,
                 const RowBatch& rows,
                 const PagedPart& part,
                 Arena& arena,
                 Queue& queue) {
  using Traits = TileTraits<kTileQueries>;
  static_assert(!Traits::IsInvalid() && Traits::CTA_TILE_KV == kBlock);
  const ArenaScope scope(arena);
  const PagedTiles tiles = ListPagedTiles(rows, part, arena, queue);
  const Partials partials{
      .values = Bf16Of(arena.Allocate(DType::kBF16, {part.most_partials, kHeadDim})),
      .log2_sums = arena.Allocate(DType::kF32, {part.most_partials}).as<float>()};
  DS_CHECK_EQ(part.tile_queries, kTileQueries);
  const bool cut = part.extra_items > 0;
  DS_CHECK(!cut || tiles.capacity * kTileQueries * p.num_kv_heads <= part.most_partials);

  TileParams params;
  params.q = Theirs(p.q);
  params.q_indptr = const_cast<int32_t*>(p.row_begin);
  params.q_stride_n = p.num_heads * kHeadDim;
  params.q_stride_h = kHeadDim;
  params.num_qo_heads = static_cast<uint32_t>(p.num_heads);
  params.group_size = flashinfer::uint_fastdiv(static_cast<uint32_t>(part.group));
  // The kernel reads where a sequence begins in `indices`, and where the last one ends.
  params.paged_kv = flashinfer::paged_kv_t<__nv_bfloat16, int32_t>(
      static_cast<uint32_t>(p.num_kv_heads), kBlock, kHeadDim,
      static_cast<uint32_t>(part.end_sequence), flashinfer::QKVLayout::kHND, Theirs(p.k_cache),
      Theirs(p.v_cache), const_cast<int32_t*>(p.block_table), tiles.page_begin,
      /*last_page_len=*/nullptr);
  params.num_positions = tiles.num_positions;
  params.window_left = -1;
  params.sm_scale = kScale;
  params.request_indices = tiles.sequence;
  params.qo_tile_indices = tiles.query_tile;
  params.kv_tile_indices = tiles.part;
  params.block_valid_mask = tiles.valid;
  params.kv_chunk_size_ptr = tiles.part_size;
  params.partition_kv = cut;
  params.o = Theirs(cut ? partials.values : p.out);
  params.o_indptr = cut ? tiles.first_partial : const_cast<int32_t*>(p.row_begin);
  params.lse = cut ? partials.log2_sums : nullptr;
  Launch<&flashinfer::BatchPrefillWithPagedKVCacheKernel</*SAME_KV_STRIDES=*/true, Traits,
                                                         TileParams>>(
      queue,
      dim3(static_cast<unsigned int>(tiles.capacity), 1, static_cast<unsigned int>(p.num_kv_heads)),
      dim3(kWarp, Traits::NUM_WARPS_Q, Traits::NUM_WARPS_KV),
      sizeof(typename Traits::SharedStoragePaged), params);
  if (cut) {
    MergeGated(p, part, tiles, partials, queue);
  } else {
    Gate(p, part, queue);
  }
}

// Items, each of which has a block a KV head, that fill all processors.
int64_t Fill(int64_t kv_heads, const Queue& queue) {
  return (queue.num_multiprocessors() * kBlocksPerMultiprocessor + kv_heads - 1) / kv_heads;
}

}  // namespace

OpScratch FlashInferAttentionScratch(const OpSizes& sizes, const Queue& queue) {
  const int64_t kv_heads = sizes.num_kv_heads;
  if (kv_heads == 0) return {};
  // Both lists give their scratch back. The host knows the numbers of decodes alone here.
  RowBatch rows;
  rows.num_decode = rows.num_decode_rows = sizes.decode_rows;
  rows.num_sequences = sizes.decode_rows + 1;
  rows.num_rows = sizes.decode_rows + kBlock;
  rows.block_table = TensorView(nullptr, DType::kI32, {sizes.decode_rows, 1});
  const int64_t fill = Fill(kv_heads, queue);
  const int64_t most = std::max(DecodePart(rows, sizes.num_heads, kv_heads, fill).most_partials,
                                ChunkPart(rows, sizes.num_heads, kv_heads, fill).most_partials);
  constexpr int64_t kPartialBytes = kHeadDim * sizeof(bf16) + sizeof(float);
  return {.fixed = most * kPartialBytes};
}

void FlashInferAttention(const AttentionArgs& args, Arena& arena, Queue& queue) {
  const RowBatch& rows = *args.rows;
  if (rows.num_rows == 0) return;
  const AttentionParams params = CheckedParams(args);
  const int64_t kv_heads = args.num_kv_heads;
  const int64_t fill = Fill(kv_heads, queue);
  if (rows.num_decode > 0) {
    AttendTiles<16>(params, rows, DecodePart(rows, args.num_heads, kv_heads, fill), arena, queue);
  }
  if (rows.num_sequences > rows.num_decode) {
    AttendTiles<64>(params, rows, ChunkPart(rows, args.num_heads, kv_heads, fill), arena, queue);
  }
}

}  // namespace deltaserve::cuda
