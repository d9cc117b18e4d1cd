#include "kernels/cuda/causal_conv.h"
#include "kernels/cuda/delta_chunk.h"
#include "kernels/cuda/delta_decode.h"
#include "kernels/cuda/delta_rule.h"
#include "kernels/cuda/gated_delta_net.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/vectors.h"

namespace deltaserve::cuda {
namespace {

static_assert(kChunkRows == kBlockTokens);

void CheckShapes(const GatedDeltaNetArgs& args) {
  const int64_t n = args.rows->num_rows;
  const int64_t hk = args.num_key_heads;
  const int64_t hv = args.num_value_heads;
  const int64_t channels = (2 * hk + hv) * kDeltaHead;
  DS_CHECK(args.key_head_dim == kDeltaHead && args.value_head_dim == kDeltaHead)
      << "heads of " << args.key_head_dim << " and " << args.value_head_dim;
  DS_CHECK(hk > 0 && hv % hk == 0) << hv << " value heads, " << hk << " key";
  DS_CHECK_EQ(args.qkv.numel(), n * channels);
  DS_CHECK_EQ(args.z.numel(), n * hv * kDeltaHead);
  DS_CHECK_EQ(args.out.numel(), n * hv * kDeltaHead);
  DS_CHECK(args.a.numel() == n * hv && args.b.numel() == n * hv) << args.a.ToString();
  DS_CHECK(args.conv_weight.dim(0) == channels && args.conv_weight.dim(1) == kConvKernel)
      << args.conv_weight.ToString();
  DS_CHECK(args.conv_state.dim(1) == kConvHistory && args.conv_state.dim(2) == channels)
      << args.conv_state.ToString();
  DS_CHECK(args.a_log.numel() == hv && args.dt_bias.numel() == hv) << args.a_log.ToString();
  DS_CHECK_EQ(args.norm_weight.numel(), kDeltaHead);
  DS_CHECK(args.recurrent_state.dim(1) == hv && args.recurrent_state.dim(2) == kDeltaHead &&
           args.recurrent_state.dim(3) == kDeltaHead)
      << args.recurrent_state.ToString();
}

DeltaParams Params(const GatedDeltaNetArgs& args) {
  const RowBatch& rows = *args.rows;
  return {.num_key_heads = static_cast<int>(args.num_key_heads),
          .num_value_heads = static_cast<int>(args.num_value_heads),
          .channels = static_cast<int>(args.conv_weight.dim(0)),
          .num_sequences = static_cast<int>(rows.num_sequences),
          .num_decode = static_cast<int>(rows.num_decode),
          .num_decode_rows = static_cast<int>(rows.num_decode_rows),
          .num_rows = static_cast<int>(rows.num_rows),
          .eps = args.eps,
          .row_begin = rows.row_begin.as<int32_t>(),
          .row_sequence = rows.row_sequence.as<int32_t>(),
          .state = rows.state.as<int32_t>(),
          .qkv = Bf16Of(args.qkv),
          .z = Bf16Of(args.z),
          .b = Bf16Of(args.b),
          .a = Bf16Of(args.a),
          .conv_weight = args.conv_weight.as<float>(),
          .a_log = args.a_log.as<float>(),
          .dt_bias = args.dt_bias.as<float>(),
          .norm_weight = args.norm_weight.as<float>(),
          .conv_state = args.conv_state.as<float>(),
          .recurrent_state = args.recurrent_state.as<float>(),
          .out = Bf16Of(args.out)};
}

// The rows of prefill, in scratch whose size follows from counts that the host knows.
void Chunks(const DeltaParams& params, Arena& arena, Queue& queue) {
  const int64_t rows = params.num_rows - params.num_decode_rows;
  const int64_t sequences = params.num_sequences - params.num_decode;
  const int64_t hv = params.num_value_heads;
  const int64_t chunks = rows / kChunkRows + sequences;  // see ChunkBase
  const auto matrices = [&] {
    return Bf16Of(arena.Allocate(DType::kBF16, {chunks, hv, kChunkRows, kChunkRows}));
  };
  ArenaScope scope(arena);
  ChunkScratch scratch;
  scratch.chunks = static_cast<int>(chunks);
  scratch.conv = Bf16Of(arena.Allocate(DType::kBF16, {rows, params.channels}));
  scratch.inverse = matrices();
  scratch.attention = matrices();
  scratch.decay = arena.Allocate(DType::kF32, {chunks, hv, 2, kChunkRows}).as<float>();
  CausalConv(params, scratch.conv, queue);
  PrepareChunks(params, scratch, queue);
  RunChunks(params, scratch, queue);
  GateAndNorm(params, queue);
}

}  // namespace

// As Chunks() takes it: a chunk of 64 rows, or a sequence's part of one, has two matrices a head.
OpScratch GatedDeltaNetScratch(const OpSizes& sizes) {
  constexpr int64_t kHeadBytes = 2 * kChunkRows * (kChunkRows * sizeof(bf16) + sizeof(float));
  const int64_t chunk = sizes.num_value_heads * kHeadBytes;
  return {.per_chunk_row =
              sizes.conv_channels * static_cast<int64_t>(sizeof(bf16)) + chunk / kChunkRows,
          .per_chunk = chunk};
}

void GatedDeltaNet(const GatedDeltaNetArgs& args, Arena& arena, Queue& queue) {
  CheckShapes(args);
  if (args.rows->num_rows == 0) return;
  const DeltaParams params = Params(args);
  if (params.num_decode_rows > 0) DeltaDecode(params, queue);
  if (params.num_decode_rows < params.num_rows) Chunks(params, arena, queue);
  AdvanceConvState(params, queue);
}

}  // namespace deltaserve::cuda
