// Which memory the checksum of an op covers: all that it wrote, nothing else.

#include "worker/replay/op_checksums.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/ops.h"
#include "kernels/reference/reference_device.h"

namespace deltaserve {
namespace {

// Host tensors with a value of their own in each element.
class Tensors {
 public:
  TensorView F32(std::initializer_list<int64_t> shape) {
    TensorView view = New(DType::kF32, shape, sizeof(float));
    for (int64_t i = 0; i < view.numel(); ++i) {
      view.as<float>()[i] = 0.01f * static_cast<float>(++next_ % 97);
    }
    return view;
  }
  TensorView I32(const std::vector<int32_t>& values, std::initializer_list<int64_t> shape) {
    TensorView view = New(DType::kI32, shape, sizeof(int32_t));
    std::copy(values.begin(), values.end(), view.as<int32_t>());
    return view;
  }

 private:
  TensorView New(DType dtype, std::initializer_list<int64_t> shape, size_t element) {
    const int64_t count = std::accumulate(shape.begin(), shape.end(), int64_t{1},
                                          [](int64_t a, int64_t b) { return a * b; });
    buffers_.push_back(Buffer::AllocateHost(static_cast<size_t>(count) * element));
    return buffers_.back().View(dtype, shape);
  }

  std::vector<Buffer> buffers_;
  int next_ = 0;
};

// One decode of slot 2 at position 65 of state 1, then a chunk of two rows of slot 0 at 0 of state
// 3. Slot 2 has blocks 4 and 1, slot 0 block 2.
RowBatch Batch(Tensors& tensors) {
  return {.num_rows = 3,
          .num_sequences = 2,
          .num_decode = 1,
          .num_decode_rows = 1,
          .ids = tensors.I32({5, 6, 7}, {3}),
          .positions = tensors.I32({65, 0, 1}, {3}),
          .row_sequence = tensors.I32({0, 1, 1}, {3}),
          .row_begin = tensors.I32({0, 1, 3}, {3}),
          .slot = tensors.I32({2, 0}, {2}),
          .state = tensors.I32({1, 3}, {2}),
          .block_table = tensors.I32({2, 0, 0, 0, 4, 1}, {3, 2})};
}

constexpr int64_t kHeads = 2;
constexpr int64_t kDim = 4;

// AttentionPrepare with 1 added to one element of v or of the cache; -1: to none.
OpChecksum Prepare(int64_t v_at, int64_t cache_at) {
  OpChecksums checksums;
  const auto device = ChecksumDevice(reference::CreateReferenceDevice(), checksums);
  Tensors tensors;
  const RowBatch rows = Batch(tensors);
  AttentionPrepareArgs args{.num_heads = 2,
                            .num_kv_heads = kHeads,
                            .head_dim = kDim,
                            .rotary_dim = 2,
                            .eps = 1e-6f,
                            .rows = &rows,
                            .qg = tensors.F32({3, 2, 2 * kDim}),
                            .k = tensors.F32({3, kHeads, kDim}),
                            .v = tensors.F32({3, kHeads, kDim}),
                            .q_norm = tensors.F32({kDim}),
                            .k_norm = tensors.F32({kDim}),
                            .inv_frequency = tensors.F32({1}),
                            .q_out = tensors.F32({3, 2, kDim}),
                            .k_cache = tensors.F32({5, kHeads, kBlockTokens, kDim}),
                            .v_cache = tensors.F32({5, kHeads, kBlockTokens, kDim})};
  if (v_at >= 0) args.v.as<float>()[v_at] += 1;
  if (cache_at >= 0) args.k_cache.as<float>()[cache_at] += 1;
  checksums.Begin();
  device->ops().AttentionPrepare(args);
  const std::vector<OpChecksum> ops = checksums.Take();
  EXPECT_EQ(ops.size(), 1u);
  EXPECT_EQ(ops[0].kind, OpKind::kAttentionPrepare);
  return ops[0];
}

TEST(OpChecksumsTest, OfTheCacheWhatIsWritten) {
  const OpChecksum same = Prepare(-1, -1);
  EXPECT_EQ(Prepare(-1, -1), same);
  for (int64_t at = 0; at < 3 * kHeads * kDim; ++at) EXPECT_NE(Prepare(at, -1), same) << at;
  // Other positions and blocks do not count; those of the rows are overwritten.
  constexpr int64_t kBlock = kHeads * kBlockTokens * kDim;
  for (const int64_t at : {int64_t{0}, kBlock + 2 * kDim, 2 * kBlock, 3 * kBlock, 4 * kBlock}) {
    EXPECT_EQ(Prepare(-1, at), same) << at;
  }
}

// GatedDeltaNet with 1 added to one element of a state.
OpChecksum DeltaNet(int64_t conv_at, int64_t recurrent_at) {
  OpChecksums checksums;
  const auto device = ChecksumDevice(reference::CreateReferenceDevice(), checksums);
  Tensors tensors;
  Arena arena;
  const RowBatch rows = Batch(tensors);
  GatedDeltaNetArgs args{.num_key_heads = 1,
                         .num_value_heads = 1,
                         .key_head_dim = kDim,
                         .value_head_dim = kDim,
                         .eps = 1e-6f,
                         .rows = &rows,
                         .qkv = tensors.F32({3, 3 * kDim}),
                         .z = tensors.F32({3, kDim}),
                         .b = tensors.F32({3, 1}),
                         .a = tensors.F32({3, 1}),
                         .conv_weight = tensors.F32({3 * kDim, 4}),
                         .a_log = tensors.F32({1}),
                         .dt_bias = tensors.F32({1}),
                         .norm_weight = tensors.F32({kDim}),
                         .conv_state = tensors.F32({4, 3, 3 * kDim}),
                         .recurrent_state = tensors.F32({4, 1, kDim, kDim}),
                         .out = tensors.F32({3, kDim})};
  if (conv_at >= 0) args.conv_state.as<float>()[conv_at] += 1;
  if (recurrent_at >= 0) args.recurrent_state.as<float>()[recurrent_at] += 1;
  checksums.Begin();
  device->ops().GatedDeltaNet(args, arena);
  const std::vector<OpChecksum> ops = checksums.Take();
  EXPECT_EQ(ops.size(), 1u);
  return ops[0];
}

TEST(OpChecksumsTest, OfTheStatesThoseOfTheBatch) {
  const OpChecksum same = DeltaNet(-1, -1);
  EXPECT_EQ(DeltaNet(-1, -1), same);
  constexpr int64_t kConv = int64_t{9} * kDim;
  constexpr int64_t kRecurrent = kDim * kDim;
  for (int64_t state = 0; state < 4; ++state) {
    const bool in_batch = state == 1 || state == 3;
    EXPECT_EQ(DeltaNet(state * kConv + kConv - 1, -1) == same, !in_batch) << state;
    EXPECT_EQ(DeltaNet(-1, state * kRecurrent + 1) == same, !in_batch) << state;
  }
}

TEST(OpChecksumsTest, OnlyBetweenBeginAndTake) {
  OpChecksums checksums;
  const auto device = ChecksumDevice(reference::CreateReferenceDevice(), checksums);
  Tensors tensors;
  const auto norm = [&] {
    device->ops().RmsNorm(
        {.x = tensors.F32({1, 4}), .weight = tensors.F32({4}), .out = tensors.F32({1, 4})});
  };
  norm();
  EXPECT_TRUE(checksums.Take().empty());
  checksums.Begin();
  norm();
  norm();
  EXPECT_EQ(checksums.Take().size(), 2u);
  norm();
  EXPECT_TRUE(checksums.Take().empty());
}

}  // namespace
}  // namespace deltaserve
