// What CUDA's ops take from the arena is what they say of themselves before there is a model.

#include <numeric>

#include "tests/kernels/batch_test.h"

namespace deltaserve {
namespace {

constexpr int64_t kHeadDim = 256;
constexpr int64_t kKeyDim = 128;  // of Gated DeltaNet, and of its values

// Those that this binary has of the CUDA kernels over the host shim.
std::vector<std::string> ShimDevices() {
  std::vector<std::string> names;
  for (const char* name : {"cuda_shim", "cuda_shim_cutlass", "cuda_shim_flashinfer"}) {
    if (MakeDevice(name) != nullptr) names.emplace_back(name);
  }
  return names;
}

class CudaMemoryTest : public testing::TestWithParam<std::string> {
 protected:
  // Runs `op` in a session of its own and compares what it took with `said`, but for padding.
  template <typename Op>
  void ExpectTaken(int64_t said, Op op) {
    Session s(*device_);
    op(s);
    const auto taken = static_cast<int64_t>(s.arena().high_water_bytes());
    EXPECT_GE(taken, said);
    EXPECT_LE(taken, said + said / 50 + 4096);
  }

  TensorView Zeros(Session& s, std::initializer_list<int64_t> shape) {
    const TensorView view = s.NewAct(shape);
    device_->Zero(view);
    return view;
  }
  TensorView ZerosF32(Session& s, std::initializer_list<int64_t> shape) {
    const TensorView view = s.NewF32(shape);
    device_->Zero(view);
    return view;
  }

  const std::unique_ptr<Device> device_ = MakeDevice(GetParam());
};

int64_t Said(const OpScratch& op, int64_t decodes, int64_t chunk_rows, int64_t chunks) {
  return op.fixed + decodes * op.per_decode_row + chunk_rows * op.per_chunk_row +
         chunks * op.per_chunk;
}

TEST_P(CudaMemoryTest, OfAttention) {
  constexpr int64_t kHeads = 4;
  constexpr int64_t kKvHeads = 2;
  const auto attend = [this](Session& s, const BatchSpec& spec, int64_t slots) {
    const PagedLayout layout = MakeLayout(slots, 1);
    std::vector<int32_t> used(spec.sequences().size());
    std::iota(used.begin(), used.end(), 0);
    const RowBatch batch = PutBatch(s, spec, used, layout);
    const int64_t rows = batch.num_rows;
    const int64_t blocks = layout.num_blocks();
    s.ops().Attention({.num_heads = kHeads,
                       .num_kv_heads = kKvHeads,
                       .head_dim = kHeadDim,
                       .rows = &batch,
                       .q = Zeros(s, {rows, kHeads, kHeadDim}),
                       .qg = Zeros(s, {rows, kHeads, 2 * kHeadDim}),
                       .k_cache = Zeros(s, {blocks, kKvHeads, kBlockTokens, kHeadDim}),
                       .v_cache = Zeros(s, {blocks, kKvHeads, kBlockTokens, kHeadDim}),
                       .out = Zeros(s, {rows, kHeads * kHeadDim})},
                      s.arena());
  };
  for (const int64_t decodes : {3, 40}) {  // of this device's processors, and of rows
    const OpScratch scratch =
        device_->ops()
            .Memory({.num_heads = kHeads, .num_kv_heads = kKvHeads, .decode_rows = decodes})
            .attention;
    ExpectTaken(Said(scratch, decodes, 0, 0), [&](Session& s) {
      BatchSpec spec;
      for (int64_t i = 0; i < decodes; ++i) spec.decodes.push_back({.rows = 1, .start = 2});
      attend(s, spec, decodes);
      attend(s, {.decodes = {}, .chunks = {{.rows = 2, .start = 0}}}, decodes);
    });
  }
}

TEST_P(CudaMemoryTest, OfGatedDeltaNet) {
  constexpr int64_t kValueHeads = 2;
  constexpr int64_t kChannels = (2 + kValueHeads) * kKeyDim;
  constexpr int64_t kValues = kValueHeads * kKeyDim;
  const OpScratch scratch =
      device_->ops()
          .Memory({.conv_channels = kChannels, .num_value_heads = kValueHeads, .decode_rows = 1})
          .gated_delta_net;
  // One long prompt, and short ones of which each has a chunk to itself.
  for (const std::vector<int64_t>& prompts : {std::vector<int64_t>{128}, {1, 1, 1, 1, 1, 59}}) {
    const int64_t sequences = static_cast<int64_t>(prompts.size()) + 1;
    const int64_t rows = std::accumulate(prompts.begin(), prompts.end(), int64_t{1});
    ExpectTaken(Said(scratch, 1, rows - 1, sequences - 1), [&](Session& s) {
      BatchSpec spec;
      spec.decodes.push_back({.rows = 1, .start = 3});
      for (const int64_t prompt : prompts) spec.chunks.push_back({.rows = prompt, .start = 0});
      std::vector<int32_t> slots(static_cast<size_t>(sequences));
      std::iota(slots.begin(), slots.end(), 0);
      const RowBatch batch = PutBatch(s, spec, slots, MakeLayout(sequences, 2));
      s.ops().GatedDeltaNet(
          {.num_key_heads = 1,
           .num_value_heads = kValueHeads,
           .key_head_dim = kKeyDim,
           .value_head_dim = kKeyDim,
           .eps = 1e-6F,
           .rows = &batch,
           .qkv = Zeros(s, {rows, kChannels}),
           .z = Zeros(s, {rows, kValues}),
           .b = Zeros(s, {rows, kValueHeads}),
           .a = Zeros(s, {rows, kValueHeads}),
           .conv_weight = ZerosF32(s, {kChannels, 4}),
           .a_log = ZerosF32(s, {kValueHeads}),
           .dt_bias = ZerosF32(s, {kValueHeads}),
           .norm_weight = ZerosF32(s, {kKeyDim}),
           .conv_state = ZerosF32(s, {sequences, 3, kChannels}),
           .recurrent_state = ZerosF32(s, {sequences, kValueHeads, kKeyDim, kKeyDim}),
           .out = Zeros(s, {rows, kValues})},
          s.arena());
    });
  }
}

TEST_P(CudaMemoryTest, OfExperts) {
  constexpr int64_t kRows = 300;
  constexpr int64_t kHidden = 64;
  constexpr int64_t kWidth = 32;
  const OpScratch scratch = device_->ops()
                                .Memory({.num_experts = 2,
                                         .top_k = 2,
                                         .hidden = kHidden,
                                         .expert_width = kWidth,
                                         .decode_rows = kRows})
                                .experts;
  EXPECT_EQ(scratch.per_decode_row, scratch.per_chunk_row);
  const auto weights =
      device_->ops()
          .PackExperts(HostBuffer(std::vector<float>(int64_t{4} * kWidth * kHidden)),
                       HostBuffer(std::vector<float>(int64_t{2} * kHidden * kWidth)), DType::kF32,
                       2, kHidden, kWidth)
          .value();
  ExpectTaken(Said(scratch, 0, kRows, 0), [&](Session& s) {
    ExpertsArgs args;
    args.x = Zeros(s, {kRows, kHidden});
    std::vector<int32_t> experts;
    for (int64_t row = 0; row < kRows; ++row) experts.insert(experts.end(), {0, 1});
    args.experts = s.Put(experts, {kRows, 2});
    args.weights = ZerosF32(s, {kRows, 2});
    args.expert_weights = weights.get();
    args.out = Zeros(s, {kRows, kHidden});
    s.ops().Experts(args, s.arena());
  });
}

TEST_P(CudaMemoryTest, OfSampling) {
  constexpr int64_t kVocabulary = 5000;
  constexpr size_t kRows = 8;
  const MemoryNeeds needs = device_->ops().Memory({.vocab_rows = kVocabulary});
  ExpectTaken(static_cast<int64_t>(kRows) * needs.per_sampled_row, [&](Session& s) {
    const SampleParams params{.temperature = s.Put(std::vector<float>(kRows, 1.0F)),
                              .top_k = s.Put(std::vector<int32_t>(kRows, 3)),
                              .top_p = s.Put(std::vector<float>(kRows, 0.9F)),
                              .min_p = s.Put(std::vector<float>(kRows, 0.0F)),
                              .seed = s.Put(std::vector<uint64_t>(kRows, 1)),
                              .sample_index = s.Put(std::vector<uint32_t>(kRows, 0)),
                              .token_index = s.Put(std::vector<uint32_t>(kRows, 0))};
    s.ops().Sample({.logits = ZerosF32(s, {kRows, kVocabulary}),
                    .num_tokens = kVocabulary,
                    .params = &params,
                    .id = s.NewI32({kRows})},
                   s.arena());
  });
}

INSTANTIATE_TEST_SUITE_P(Devices, CudaMemoryTest, testing::ValuesIn(ShimDevices()), IsaOfTest);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(CudaMemoryTest);  // where nvcc has the kernels

}  // namespace
}  // namespace deltaserve
