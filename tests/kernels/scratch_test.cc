// Nothing is allocated while steps run: an op's scratch depends on shapes alone, and a smaller
// batch never needs more than the largest.

#include "tests/kernels/batch_test.h"

namespace deltaserve {
namespace {

constexpr int64_t kMaxRows = 150;

class ScratchTest : public CpuIsaTest {
 protected:
  explicit ScratchTest(Quantization quantization = Quantization::kNone)
      : device_(deltaserve::MakeCpu(3, GetParam(), quantization)), s_(*device_), rng_(7) {}

  TensorView Random(std::initializer_list<int64_t> shape) {
    const TensorView view(nullptr, DType::kF32, shape);
    return s_.Put(Normal(rng_, view.numel()), shape);
  }

  // Runs `op` with the most rows, freezes the arena, and runs it with every smaller number: an
  // arena that is asked for more than before ends the test.
  template <typename Op>
  void FreezeAndShrink(Op op) {
    op(kMaxRows);
    s_.arena().Freeze();
    EXPECT_GT(s_.arena().high_water_bytes(), 0u);
    for (int64_t rows = kMaxRows; rows >= 0; rows -= rows > 8 ? 7 : 1) op(rows);
    EXPECT_EQ(s_.arena().used_bytes(), 0u);
  }

  void ShrinkLinear();
  void ShrinkExperts();

  std::unique_ptr<Device> device_;
  Session s_;
  Rng rng_;
};

void ScratchTest::ShrinkLinear() {
  const auto weight = s_.ops()
                          .PackLinear(HostBuffer(ToBFloat16s(Normal(rng_, int64_t{40} * 70))),
                                      DType::kBF16, 40, 70, Precision::kMayQuantize)
                          .value();
  FreezeAndShrink([&](int64_t rows) {
    s_.ops().Linear({.x = Random({rows, 70}), .weight = weight.get(), .out = s_.NewF32({rows, 40})},
                    s_.arena());
  });
}

void ScratchTest::ShrinkExperts() {
  const auto weights =
      s_.ops()
          .PackExperts(HostBuffer(Normal(rng_, int64_t{4} * 2 * 20 * 30)),
                       HostBuffer(Normal(rng_, int64_t{4} * 30 * 20)), DType::kF32, 4, 30, 20)
          .value();
  int32_t first = 0;
  FreezeAndShrink([&](int64_t rows) {
    std::vector<int32_t> experts;
    // All rows choose the same two experts, of which the others' share is none; then other two.
    for (int64_t i = 0; i < rows; ++i) {
      experts.push_back(first);
      experts.push_back(first + 1);
    }
    first = (first + 1) % 5;
    ExpertsArgs args;
    args.x = Random({rows, 30});
    args.experts = s_.Put(experts, {rows, 2});
    args.weights = Random({rows, 2});
    args.expert_weights = weights.get();
    args.out = s_.NewF32({rows, 30});
    s_.ops().Experts(args, s_.arena());
  });
}

class Int8ScratchTest : public ScratchTest {
 protected:
  Int8ScratchTest() : ScratchTest(Quantization::kInt8) {}
};

TEST_P(ScratchTest, LinearStaysWithinWarmUp) { ShrinkLinear(); }
TEST_P(Int8ScratchTest, LinearStaysWithinWarmUp) { ShrinkLinear(); }
TEST_P(ScratchTest, ExpertsStayWithinWarmUpWhateverIsChosen) { ShrinkExperts(); }
TEST_P(Int8ScratchTest, ExpertsStayWithinWarmUpWhateverIsChosen) { ShrinkExperts(); }

TEST_P(ScratchTest, GatedDeltaNetStaysWithinWarmUp) {
  constexpr int64_t kChannels = 80;
  FreezeAndShrink([&](int64_t rows) {
    BatchSpec spec;
    for (int64_t i = 0; i < rows / 2; ++i) spec.decodes.push_back({.rows = 1, .start = i});
    if (rows > 0) spec.chunks.push_back({.rows = rows - rows / 2, .start = 0});
    const auto states = static_cast<int64_t>(spec.sequences().size());
    const RowBatch batch = PutBatch(s_, spec, ReversedSlots(spec), MakeLayout(states, 1));
    s_.ops().GatedDeltaNet({.num_key_heads = 1,
                            .num_value_heads = 2,
                            .key_head_dim = 16,
                            .value_head_dim = 24,
                            .eps = 1e-6f,
                            .rows = &batch,
                            .qkv = Random({rows, kChannels}),
                            .z = Random({rows, 48}),
                            .b = Random({rows, 2}),
                            .a = Random({rows, 2}),
                            .conv_weight = Random({kChannels, 4}),
                            .a_log = Random({2}),
                            .dt_bias = Random({2}),
                            .norm_weight = Random({24}),
                            .conv_state = Random({states, 3, kChannels}),
                            .recurrent_state = Random({states, 2, 16, 24}),
                            .out = s_.NewF32({rows, 48})},
                           s_.arena());
  });
}

TEST_P(ScratchTest, AttentionNeedsNoMoreForALongerContext) {
  int64_t start = 0;
  FreezeAndShrink([&](int64_t rows) {
    BatchSpec spec;
    if (rows > 0) spec.chunks.push_back({.rows = rows, .start = start});
    start = 1024;
    const RowBatch batch = PutBatch(s_, spec, ReversedSlots(spec), MakeLayout(1, 20));
    s_.ops().Attention({.num_heads = 4,
                        .num_kv_heads = 2,
                        .head_dim = 16,
                        .rows = &batch,
                        .q = Random({rows, 4, 16}),
                        .qg = Random({rows, 4, 32}),
                        .k_cache = Random({21, 2, kBlockTokens, 16}),
                        .v_cache = Random({21, 2, kBlockTokens, 16}),
                        .out = s_.NewF32({rows, 64})},
                       s_.arena());
  });
}

TEST_P(ScratchTest, SampleStaysWithinWarmUp) {
  FreezeAndShrink([&](int64_t rows) {
    const auto n = static_cast<size_t>(rows);
    const SampleParams params{.temperature = s_.Put(std::vector<float>(n, 1.0f)),
                              .top_k = s_.Put(std::vector<int32_t>(n, 0)),
                              .top_p = s_.Put(std::vector<float>(n, 0.9f)),
                              .min_p = s_.Put(std::vector<float>(n, 0.0f)),
                              .seed = s_.Put(std::vector<uint64_t>(n, 1)),
                              .sample_index = s_.Put(std::vector<uint32_t>(n, 0)),
                              .token_index = s_.Put(std::vector<uint32_t>(n, 0))};
    s_.ops().Sample({.logits = Random({rows, 300}),
                     .num_tokens = 290,
                     .params = &params,
                     .id = s_.NewI32({rows})},
                    s_.arena());
  });
}

INSTANTIATE_TEST_SUITE_P(Isas, ScratchTest, testing::ValuesIn(CpuIsas()), IsaOfTest);
INSTANTIATE_TEST_SUITE_P(Isas, Int8ScratchTest, testing::ValuesIn(CpuIsas()), IsaOfTest);

}  // namespace
}  // namespace deltaserve
