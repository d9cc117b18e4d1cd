// Grids of the largest step, enqueued over the shim and never run: a launch that a GPU would refuse
// is a failed check.

#include "gtest/gtest.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_prepare.h"
#include "kernels/cuda/expert_rows.h"
#include "kernels/cuda/experts.h"
#include "kernels/cuda/gated_delta_net.h"
#include "kernels/cuda/gated_merge.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/route_experts.h"
#include "kernels/cuda/rows.h"

namespace deltaserve::cuda {
namespace {

// The most that --token-budget and --slots may be.
constexpr int64_t kChunkRowsOfStep = int64_t{1} << 20;
constexpr int64_t kSlots = 4096;
constexpr int64_t kRows = kChunkRowsOfStep + kSlots;
constexpr int64_t kHidden = 128;

// Nobody reads or writes there.
void* Somewhere() {
  alignas(256) static char memory[256];
  return memory;
}
TensorView View(DType dtype, std::initializer_list<int64_t> shape) {
  return {Somewhere(), dtype, shape};
}
TensorView Act(std::initializer_list<int64_t> shape) { return View(DType::kBF16, shape); }
TensorView F32(std::initializer_list<int64_t> shape) { return View(DType::kF32, shape); }
TensorView I32(std::initializer_list<int64_t> shape) { return View(DType::kI32, shape); }

class CudaGridsTest : public testing::Test {
 protected:
  // All rows are of chunks, or of as many decodes as there are slots.
  static RowBatch Batch(bool decodes) {
    const int64_t rows = decodes ? kSlots : kRows;
    return {.num_rows = rows,
            .num_sequences = kSlots,
            .num_decode = decodes ? kSlots : 0,
            .num_decode_rows = decodes ? kSlots : 0,
            .ids = I32({rows}),
            .positions = I32({rows}),
            .row_sequence = I32({rows}),
            .row_begin = I32({kSlots + 1}),
            .slot = I32({kSlots}),
            .state = I32({kSlots}),
            .block_table = I32({kSlots, 64})};
  }

  Queue queue_{1};
  Arena arena_{[](size_t bytes) { return Buffer(Somewhere(), bytes, nullptr, false); }};
};

TEST_F(CudaGridsTest, OfRows) {
  Embed({.ids = I32({kRows}), .table = Act({10, kHidden}), .out = Act({kRows, kHidden})}, queue_);
  RmsNorm({.x = F32({kRows, kHidden}), .weight = F32({kHidden}), .out = Act({kRows, kHidden})},
          queue_);
  SiluMul({.gate_up = Act({kRows, 2 * kHidden}), .out = Act({kRows, kHidden})}, queue_);
  GatherRows({.x = Act({kRows, kHidden}), .rows = I32({kRows}), .out = Act({kRows, kHidden})},
             queue_);
}

TEST_F(CudaGridsTest, OfExperts) {
  constexpr int64_t kTopK = 8;
  const TensorView experts = I32({kRows, kTopK});
  RouteExperts({.logits = F32({kRows, 256}), .experts = experts, .weights = F32({kRows, kTopK})},
               queue_);
  const int64_t matrices = int64_t{256} * kHidden * kHidden * 2;
  const CudaExpertWeights weights(Buffer(Somewhere(), static_cast<size_t>(2 * matrices), nullptr),
                                  Buffer(Somewhere(), static_cast<size_t>(matrices), nullptr), 256,
                                  kHidden, kHidden);
  Experts({.x = Act({kRows, kHidden}),
           .experts = experts,
           .weights = F32({kRows, kTopK}),
           .expert_weights = &weights,
           .first_expert = 0,
           .shared = Act({kRows, kHidden}),
           .shared_gate = Act({kRows, 1}),
           .out = Act({kRows, kHidden})},
          arena_, queue_);
  const auto* const i32 = static_cast<const int32_t*>(Somewhere());
  const ExpertGroups groups = {.pairs = i32, .begin = i32, .num_experts = 256};
  GatherExpertRows(groups, Act({kRows, kHidden}), kTopK, Act({kRows * kTopK, kHidden}),
                   I32({kRows * kTopK}), queue_);
  ActivateExpertRows(groups, Act({kRows * kTopK, 2 * kHidden}), queue_);
}

TEST_F(CudaGridsTest, OfAttention) {
  constexpr int64_t kHeads = 16;
  for (const bool decodes : {false, true}) {
    const RowBatch batch = Batch(decodes);
    const int64_t rows = batch.num_rows;
    const TensorView cache = Act({1, 1, kBlockTokens, kHeadDim});
    AttentionPrepare({.num_heads = kHeads,
                      .num_kv_heads = 1,
                      .head_dim = kHeadDim,
                      .rotary_dim = 64,
                      .rows = &batch,
                      .qg = Act({rows, kHeads, 2 * kHeadDim}),
                      .k = Act({rows, 1, kHeadDim}),
                      .v = Act({rows, 1, kHeadDim}),
                      .q_norm = F32({kHeadDim}),
                      .k_norm = F32({kHeadDim}),
                      .inv_frequency = F32({32}),
                      .q_out = Act({rows, kHeads, kHeadDim}),
                      .k_cache = cache,
                      .v_cache = cache},
                     queue_);
    const AttentionArgs args = {.num_heads = kHeads,
                                .num_kv_heads = 1,
                                .head_dim = kHeadDim,
                                .rows = &batch,
                                .q = Act({rows, kHeads, kHeadDim}),
                                .qg = Act({rows, kHeads, 2 * kHeadDim}),
                                .k_cache = cache,
                                .v_cache = cache,
                                .out = Act({rows, kHeads * kHeadDim})};
    Attention(args, arena_, queue_);
    const PagedPart part = {.end_sequence = kSlots, .num_rows = rows};
    MergeGated(CheckedParams(args), part, {}, {}, queue_);
    Gate(CheckedParams(args), part, queue_);
  }
}

TEST_F(CudaGridsTest, OfGatedDeltaNet) {
  constexpr int64_t kChannels = 3 * kHidden;
  for (const bool decodes : {false, true}) {
    const RowBatch batch = Batch(decodes);
    const int64_t rows = batch.num_rows;
    GatedDeltaNet({.num_key_heads = 1,
                   .num_value_heads = 1,
                   .key_head_dim = kHidden,
                   .value_head_dim = kHidden,
                   .rows = &batch,
                   .qkv = Act({rows, kChannels}),
                   .z = Act({rows, kHidden}),
                   .b = Act({rows, 1}),
                   .a = Act({rows, 1}),
                   .conv_weight = F32({kChannels, 4}),
                   .a_log = F32({1}),
                   .dt_bias = F32({1}),
                   .norm_weight = F32({kHidden}),
                   .conv_state = F32({kSlots, 3, kChannels}),
                   .recurrent_state = F32({kSlots, 1, kHidden, kHidden}),
                   .out = Act({rows, kHidden})},
                  arena_, queue_);
  }
}

}  // namespace
}  // namespace deltaserve::cuda
