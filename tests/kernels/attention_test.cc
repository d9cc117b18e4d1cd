// AttentionPrepare and Attention, run one after the other as a layer does.

#include <limits>

#include "tests/kernels/batch_test.h"

namespace deltaserve {
namespace {

// Sums of up to 600 terms whose weights add to 1, values of order 1.
constexpr double kAttentionTolerance = 3e-6;
// One norm and one rotation.
constexpr double kPrepareTolerance = 2e-6;
// Where the device works in bf16 both see the same q, k and v. It rounds the result, and may round
// weights before they meet values of up to 4: half of that or less remains of a sum of them.
constexpr double kAttentionBF16Tolerance = 3 * kBF16Rounding;
constexpr double kPrepareBF16Tolerance = kBF16Rounding + kPrepareTolerance;

struct AttentionShape {
  int64_t heads;
  int64_t kv_heads;
  int64_t head_dim;
  int64_t rotary_dim;

  ModelShape OfModel() const {
    ModelShape shape = kPublishedShape;
    shape.head_dim = head_dim;
    shape.rotary_dim = rotary_dim;
    return shape;
  }
};

struct AttentionInputs {
  AttentionShape shape;
  PagedLayout layout;
  Numerics numerics;  // what q and the cache are rounded to between the two ops
  std::vector<float> qg, k, v, q_norm, k_norm, inv_frequency;
  std::vector<float> k_cache, v_cache;  // what earlier steps left

  AttentionInputs(const AttentionShape& s, int64_t rows, const PagedLayout& pages, Rng& rng)
      : shape(s), layout(pages) {
    const int64_t hd = s.head_dim;
    qg = Normal(rng, rows * s.heads * 2 * hd);
    k = Normal(rng, rows * s.kv_heads * hd);
    v = Normal(rng, rows * s.kv_heads * hd);
    q_norm = Normal(rng, hd, 0.3f, 1.5f);
    k_norm = Normal(rng, hd, 0.3f, 1.5f);
    for (int64_t j = 0; j < s.rotary_dim / 2; ++j) {
      inv_frequency.push_back(static_cast<float>(
          std::pow(1e4, -2.0 * static_cast<double>(j) / static_cast<double>(s.rotary_dim))));
    }
    const int64_t cache = pages.num_blocks() * s.kv_heads * kBlockTokens * hd;
    k_cache = Normal(rng, cache);
    v_cache = Normal(rng, cache);
  }

  // For a comparison of `device` with the reference.
  void RoundFor(const Device& device) {
    numerics = device.numerics();
    RoundInputs(numerics.activation, {&qg, &k, &v});
    RoundInputs(numerics.kv, {&k_cache, &v_cache});
  }
};

struct AttentionResult {
  std::vector<float> q, k_cache, v_cache, out;
};

AttentionResult Compute(Device& device,
                        const AttentionInputs& in,
                        const BatchSpec& spec,
                        const std::vector<int32_t>& slots,
                        int64_t first_row = 0,
                        const AttentionResult* from = nullptr) {
  Session s(device);
  const auto& [heads, kv_heads, hd, rotary] = in.shape;
  const int64_t n = spec.num_rows();
  const RowBatch rows = PutBatch(s, spec, slots, in.layout);
  const auto put = [&, first_row](const std::vector<float>& x, int64_t width) {
    return RowsOf(x, width, first_row, n);
  };
  const TensorView qg = s.PutAct(put(in.qg, heads * 2 * hd), {n, heads, 2 * hd});
  const TensorView q = s.NewAct({n, heads, hd});
  const int64_t blocks = in.layout.num_blocks();
  const TensorView k_cache =
      s.PutKv(from == nullptr ? in.k_cache : from->k_cache, {blocks, kv_heads, kBlockTokens, hd});
  const TensorView v_cache =
      s.PutKv(from == nullptr ? in.v_cache : from->v_cache, {blocks, kv_heads, kBlockTokens, hd});
  s.ops().AttentionPrepare({.num_heads = heads,
                            .num_kv_heads = kv_heads,
                            .head_dim = hd,
                            .rotary_dim = rotary,
                            .eps = 1e-5f,
                            .rows = &rows,
                            .qg = qg,
                            .k = s.PutAct(put(in.k, kv_heads * hd), {n, kv_heads, hd}),
                            .v = s.PutAct(put(in.v, kv_heads * hd), {n, kv_heads, hd}),
                            .q_norm = s.Put(in.q_norm),
                            .k_norm = s.Put(in.k_norm),
                            .inv_frequency = s.Put(in.inv_frequency),
                            .q_out = q,
                            .k_cache = k_cache,
                            .v_cache = v_cache});
  AttentionResult result{s.Floats(q), s.Floats(k_cache), s.Floats(v_cache), {}};
  s.RoundTo(in.numerics.activation, q);
  s.RoundTo(in.numerics.kv, k_cache);
  const TensorView out = s.NewAct({n, heads * hd});
  s.ops().Attention({.num_heads = heads,
                     .num_kv_heads = kv_heads,
                     .head_dim = hd,
                     .rows = &rows,
                     .q = q,
                     .qg = qg,
                     .k_cache = k_cache,
                     .v_cache = v_cache,
                     .out = out},
                    s.arena());
  result.out = s.Floats(out);
  return result;
}

struct AttentionCase {
  const char* name;
  AttentionShape shape;
  BatchSpec batch;
};

std::vector<AttentionCase> Cases() {
  return {{"no_rows", {2, 1, 256, 64}, {}},
          {"first_token", {8, 2, 256, 64}, {{{1, 0}}, {}}},
          {"decode_at_block_ends", {4, 1, 256, 64}, {{{1, 63}, {1, 64}, {1, 65}}, {}}},
          {"decode_at_split_ends", {4, 2, 256, 64}, {{{1, 255}, {1, 256}, {1, 257}, {1, 600}}, {}}},
          {"prefill", {4, 2, 256, 64}, {{}, {{70, 0}}}},
          {"later_chunk", {4, 2, 256, 64}, {{}, {{66, 192}, {5, 512}}}},
          {"chunk_of_few_tiles", {1, 1, 256, 64}, {{}, {{300, 64}}}},
          {"mixed", {6, 2, 256, 64}, {{{1, 300}, {3, 254}}, {{65, 0}, {2, 64}}}},
          {"one_head", {1, 1, 256, 64}, {{{1, 0}, {1, 129}}, {{3, 0}}}},
          {"many_heads_share_keys", {16, 1, 256, 64}, {{{1, 130}}, {{7, 64}}}},
          {"more_heads_than_a_tile", {24, 1, 256, 64}, {{{2, 130}}, {}}},
          {"rows_to_verify", {8, 2, 256, 64}, {{{4, 253}, {5, 62}, {1, 0}}, {}}},
          {"odd_sizes", {3, 3, 7, 2}, {{{1, 70}}, {{9, 0}, {6, 256}}}},
          {"one_dimension", {2, 2, 1, 0}, {{{1, 3}}, {{3, 0}}}},
          {"wide_group", {16, 1, 40, 10}, {{{1, 130}}, {{7, 64}}}},
          {"wider_than_a_tile", {50, 1, 16, 4}, {{{1, 70}}, {{3, 64}}}},
          {"long", {4, 1, 64, 16}, {{{1, 630}, {6, 520}}, {{20, 576}}}}};
}

class AttentionTest : public testing::TestWithParam<std::tuple<std::string, AttentionCase>> {};

TEST_P(AttentionTest, AgreesWithTheReference) {
  const auto& [name, test] = GetParam();
  const auto device = MakeDevice(name);
  if (device == nullptr) GTEST_SKIP() << "no " << name;
  const absl::Status sizes = device->ops().Supports(test.shape.OfModel());
  if (IsRefusedByName(sizes)) return;
  Rng rng(51);
  const auto slots = ReversedSlots(test.batch);
  AttentionInputs in(test.shape, test.batch.num_rows(),
                     MakeLayout(static_cast<int64_t>(slots.size()) + 1, 10), rng);
  in.RoundFor(*device);
  const AttentionResult actual = Compute(*device, in, test.batch, slots);
  const AttentionResult expected = Compute(*MakeDevice("reference"), in, test.batch, slots);
  const double prepared = Tolerance(*device, kPrepareTolerance, kPrepareBF16Tolerance);
  ExpectClose(actual.q, expected.q, prepared, "q");
  ExpectClose(actual.k_cache, expected.k_cache, prepared, "k cache");
  ExpectSameBits(actual.v_cache, expected.v_cache, "v cache");
  ExpectClose(actual.out, expected.out,
              Tolerance(*device, kAttentionTolerance, kAttentionBF16Tolerance));
}

INSTANTIATE_TEST_SUITE_P(Cases,
                         AttentionTest,
                         testing::Combine(testing::ValuesIn(DevicesAndShim()),
                                          testing::ValuesIn(Cases())),
                         [](const auto& param_info) {
                           return std::get<0>(param_info.param) + "_" +
                                  std::get<1>(param_info.param).name;
                         });

class AttentionDeviceTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    device_ = MakeDevice(GetParam());
    if (device_ == nullptr) GTEST_SKIP() << "no " << GetParam();
  }
  std::unique_ptr<Device> device_;
};

// Numbers computed from specification 3.4 by a program of its own, in double.
TEST_P(AttentionDeviceTest, GivesTheNumbersOfTheSpecification) {
  Rng rng(0);
  const AttentionShape shape{.heads = 4, .kv_heads = 2, .head_dim = 8, .rotary_dim = 4};
  const absl::Status sizes = device_->ops().Supports(shape.OfModel());
  if (IsRefusedByName(sizes)) return;
  AttentionInputs in(shape, 3, MakeLayout(2, 2), rng);
  in.qg = Wave(int64_t{3} * 4 * 16, 0.41, 0.2);
  in.k = Wave(int64_t{3} * 2 * 8, 0.53, 0.9);
  in.v = Wave(int64_t{3} * 2 * 8, 0.67, 0.4);
  in.q_norm = Wave(8, 0.6, 0.3, 0.5);
  in.k_norm = Wave(8, 0.9, 0.8, 0.5);
  for (float& w : in.q_norm) w += 1.0f;
  for (float& w : in.k_norm) w += 1.0f;
  in.inv_frequency = {1.0f, 0.1f};
  const AttentionResult result = Compute(*device_, in, {{}, {{3, 0}}}, {1});
  const double tolerance = Tolerance(*device_, 2e-6, kAttentionBF16Tolerance);
  ExpectClose(
      RowsOf(result.out, 32, 1, 2),
      {0.1039474f,  0.2413136f,  0.3110765f,  0.2600408f,  0.0315035f,  -0.3315454f, -0.6344120f,
       -0.6629160f, 0.1029756f,  0.2600002f,  0.3546785f,  0.3022969f,  0.0375771f,  -0.3608391f,
       -0.6660089f, -0.6739904f, -0.1998444f, -0.3331334f, -0.3562410f, -0.1783791f, 0.1909532f,
       0.5683988f,  0.7151805f,  0.5246838f,  -0.2214090f, -0.3838244f, -0.4106276f, -0.1986028f,
       0.2077913f,  0.5911512f,  0.7183273f,  0.5095632f,  0.0557718f,  0.2683881f,  0.4291407f,
       0.3992002f,  0.1405130f,  -0.2232932f, -0.4904050f, -0.5165693f, -0.0656815f, 0.1228573f,
       0.3233743f,  0.4024758f,  0.2856382f,  0.0240947f,  -0.2387104f, -0.3610600f, 0.2929983f,
       0.0920545f,  -0.2357850f, -0.5075848f, -0.5537051f, -0.3413410f, 0.0036281f,  0.2807466f,
       0.4514857f,  0.2173450f,  -0.1977704f, -0.5660761f, -0.6747019f, -0.4691929f, -0.0891911f,
       0.2331278f},
      tolerance);
  // Slot 1, position 2 is row 2 of the slot's first block; blocks count down from 4.
  const int64_t row = (in.layout.table[2] * 2 + 1) * kBlockTokens + 2;
  ExpectClose(RowsOf(result.k_cache, 8, row, 1),
              {1.7143331f, -1.0952317f, 0.5347627f, -1.5062744f, -0.6382702f, -0.3355787f,
               0.2164281f, 1.3159256f},
              tolerance, "k of position 2, head 1");
}

TEST_P(AttentionDeviceTest, WritesOnlyTheRowsOfItsPositions) {
  Rng rng(61);
  AttentionInputs in({.heads = 2, .kv_heads = 2, .head_dim = 256, .rotary_dim = 64}, 1,
                     MakeLayout(2, 3), rng);
  in.RoundFor(*device_);
  const AttentionResult result = Compute(*device_, in, {{{1, 130}}, {}}, {0});
  const int64_t block = in.layout.table[2];
  for (int64_t row = 0; row < in.layout.num_blocks() * 2 * kBlockTokens; ++row) {
    const bool written =
        row / kBlockTokens / 2 == block && row % kBlockTokens == 130 % kBlockTokens;
    EXPECT_EQ(RowsOf(result.v_cache, 256, row, 1) == RowsOf(in.v_cache, 256, row, 1), !written)
        << row;
    EXPECT_EQ(RowsOf(result.k_cache, 256, row, 1) == RowsOf(in.k_cache, 256, row, 1), !written)
        << row;
  }
}

TEST_P(AttentionDeviceTest, SeesNothingPastItsPosition) {
  Rng rng(63);
  AttentionInputs in({.heads = 2, .kv_heads = 1, .head_dim = 256, .rotary_dim = 64}, 6,
                     MakeLayout(1, 5), rng);
  in.RoundFor(*device_);
  const BatchSpec batch{{{1, 70}}, {{5, 0}}};
  const AttentionResult clean = Compute(*device_, in, {{{1, 70}}, {}}, {0});
  // Memory past the last position may hold anything.
  for (int64_t position = 71; position < 5 * kBlockTokens; ++position) {
    const int64_t block = in.layout.table[static_cast<size_t>(position / kBlockTokens)];
    const int64_t at = (block * kBlockTokens + position % kBlockTokens) * 256;
    for (int64_t d = 0; d < 256; ++d) {
      in.k_cache[static_cast<size_t>(at + d)] = std::numeric_limits<float>::quiet_NaN();
      in.v_cache[static_cast<size_t>(at + d)] = std::numeric_limits<float>::infinity();
    }
  }
  ExpectSameBits(Compute(*device_, in, {{{1, 70}}, {}}, {0}).out, clean.out, "decode");
}

TEST_P(AttentionDeviceTest, LaterRowsOfAChunkReachNoEarlierOne) {
  constexpr int64_t kRows = 20;
  Rng rng(64);
  AttentionInputs in({.heads = 2, .kv_heads = 1, .head_dim = 256, .rotary_dim = 64}, kRows,
                     MakeLayout(1, 5), rng);
  in.RoundFor(*device_);
  const BatchSpec batch{{}, {{kRows, 64}}};
  const AttentionResult clean = Compute(*device_, in, batch, {0});
  // Where rows share a product of matrices, an infinite value times a weight of 0 is not 0.
  const float large =
      device_->numerics() == kF32Numerics ? std::numeric_limits<float>::infinity() : 3e38f;
  for (size_t i = in.v.size() - 256; i < in.v.size(); ++i) {
    in.k[i] = std::numeric_limits<float>::quiet_NaN();
    in.v[i] = large;
  }
  const AttentionResult result = Compute(*device_, in, batch, {0});
  ExpectSameBits(RowsOf(result.out, 512, 0, kRows - 1), RowsOf(clean.out, 512, 0, kRows - 1),
                 "rows before");
  EXPECT_TRUE(std::isnan(result.out.back()));
}

TEST_P(AttentionDeviceTest, SurvivesScoresFarApart) {
  Rng rng(65);
  AttentionInputs in({.heads = 2, .kv_heads = 1, .head_dim = 256, .rotary_dim = 64}, 1,
                     MakeLayout(1, 8), rng);
  for (float& x : in.k_cache) x *= 40.0f;
  in.RoundFor(*device_);
  const AttentionResult actual = Compute(*device_, in, {{{1, 500}}, {}}, {0});
  const AttentionResult expected = Compute(*MakeDevice("reference"), in, {{{1, 500}}, {}}, {0});
  // Scores of some hundreds: their f32 rounding is a relative error of the weights.
  ExpectClose(actual.out, expected.out, Tolerance(*device_, 1e-4, 1e-4 + kAttentionBF16Tolerance));
}

INSTANTIATE_TEST_SUITE_P(Devices,
                         AttentionDeviceTest,
                         testing::ValuesIn(AllDevicesAndShim()),
                         IsaOfTest);

// What blocks of threads share out among themselves.
class CudaAttentionTest : public AttentionDeviceTest {
 protected:
  void Compare(const AttentionInputs& in, const BatchSpec& batch) {
    const auto slots = ReversedSlots(batch);
    ExpectClose(Compute(*device_, in, batch, slots).out,
                Compute(*MakeDevice("reference"), in, batch, slots).out, kAttentionBF16Tolerance);
  }
};

// More than the lanes of a warp, some of more rows than a tile; no position but theirs counts.
TEST_P(CudaAttentionTest, FindsTheTilesOfManyChunks) {
  BatchSpec batch{{}, std::vector<SequenceSpec>(36)};
  batch.chunks[1].rows = 130;
  batch.chunks[34].rows = 129;
  Rng rng(67);
  AttentionInputs in({.heads = 1, .kv_heads = 1, .head_dim = 256, .rotary_dim = 64},
                     batch.num_rows(), MakeLayout(36, 3), rng);
  std::fill(in.k_cache.begin(), in.k_cache.end(), std::numeric_limits<float>::quiet_NaN());
  std::fill(in.v_cache.begin(), in.v_cache.end(), std::numeric_limits<float>::infinity());
  in.RoundFor(*device_);
  Compare(in, batch);
}

// Of one split and of several, as many sequences leave fewer parts to each.
TEST_P(CudaAttentionTest, MergesPartsOfLongSequences) {
  BatchSpec batch{std::vector<SequenceSpec>(10, {.rows = 1, .start = 3}), {{2, 1024}}};
  batch.decodes[0].start = 1500;
  batch.decodes[7] = {.rows = 2, .start = 767};
  Rng rng(66);
  AttentionInputs in({.heads = 2, .kv_heads = 1, .head_dim = 256, .rotary_dim = 64},
                     batch.num_rows(), MakeLayout(11, 24), rng);
  in.RoundFor(*device_);
  Compare(in, batch);
}

TEST_P(CudaAttentionTest, GivesTheSameBitsAgain) {
  const BatchSpec batch{{{1, 300}, {3, 254}}, {{9, 64}}};
  Rng rng(68);
  const AttentionInputs in({.heads = 6, .kv_heads = 1, .head_dim = 256, .rotary_dim = 64},
                           batch.num_rows(), MakeLayout(3, 5), rng);
  const auto slots = ReversedSlots(batch);
  ExpectSameBits(Compute(*device_, in, batch, slots).out, Compute(*device_, in, batch, slots).out,
                 "out");
}

// After the steps that a server warms up with, of more tiles than fill the shim's processors: an
// arena that is asked for more ends the test.
TEST_P(CudaAttentionTest, NoMixOfRowsNeedsMoreScratch) {
  constexpr int64_t kSlots = 9;
  constexpr int64_t kHeads = 4;
  Session s(*device_);
  const PagedLayout layout = MakeLayout(kSlots, 6);
  const DType kv = s.numerics().kv;
  const TensorView k_cache = s.New(kv, {layout.num_blocks(), 1, kBlockTokens, 256});
  const TensorView v_cache = s.New(kv, {layout.num_blocks(), 1, kBlockTokens, 256});
  const auto attend = [&](const BatchSpec& batch) {
    const int64_t n = batch.num_rows();
    const RowBatch rows = PutBatch(s, batch, ReversedSlots(batch), layout);
    s.ops().Attention({.num_heads = kHeads,
                       .num_kv_heads = 1,
                       .head_dim = 256,
                       .rows = &rows,
                       .q = s.NewAct({n, kHeads, 256}),
                       .qg = s.NewAct({n, kHeads, 512}),
                       .k_cache = k_cache,
                       .v_cache = v_cache,
                       .out = s.NewAct({n, kHeads * 256})},
                      s.arena());
    EXPECT_TRUE(device_->Synchronize().ok());
  };
  const auto sequences = [](int64_t count, SequenceSpec sequence) {
    return std::vector<SequenceSpec>(static_cast<size_t>(count), sequence);
  };
  attend({{}, sequences(kSlots, {.rows = 1})});
  attend({sequences(kSlots, {.rows = 1}), {}});
  attend({sequences(kSlots - 1, {.rows = 1}), {{130, 0}}});
  s.arena().Freeze();
  attend({sequences(kSlots, {.rows = 1, .start = 300}), {}});
  for (const int64_t decodes : {0, 8}) {
    const auto decode = sequences(decodes, {.rows = 1, .start = 130});
    attend({decode, {{1, 300}}});
    attend({decode, {{130, 64}}});
    attend({decode, sequences(kSlots - decodes, {.rows = 11, .start = 64})});
  }
  EXPECT_EQ(s.arena().used_bytes(), 0U);
}

std::vector<std::string> CudaDevices() {
  auto names = DevicesAndShim();
  std::erase_if(names, [](const std::string& name) { return !name.starts_with("cuda"); });
  return names;
}

INSTANTIATE_TEST_SUITE_P(Devices, CudaAttentionTest, testing::ValuesIn(CudaDevices()), IsaOfTest);

// Promise 2: the bits of a row.
class AttentionInvarianceTest : public CpuIsaTest {
 protected:
  AttentionInvarianceTest() : rng_(71), in_(kShape, kRows, MakeLayout(8, 10), rng_) {}

  static constexpr AttentionShape kShape{
      .heads = 4, .kv_heads = 2, .head_dim = 256, .rotary_dim = 64};
  static constexpr int64_t kRows = 300;
  static constexpr int64_t kWidth = int64_t{4} * 256;

  Rng rng_;
  AttentionInputs in_;
};

TEST_P(AttentionInvarianceTest, ARowsBitsDependOnNeitherRowsNorThreads) {
  const BatchSpec batch{{{1, 3}, {1, 300}, {3, 254}}, {{130, 0}, {67, 192}, {2, 512}}};
  const auto slots = ReversedSlots(batch);
  const AttentionResult all = Compute(*MakeCpu(1), in_, batch, slots);
  for (int threads = 1; threads <= 3; ++threads) {
    const auto cpu = MakeCpu(threads);
    ExpectSameBits(Compute(*cpu, in_, batch, slots).out, all.out, "threads");
    int64_t row = 0;
    const auto sequences = batch.sequences();
    for (size_t s = 0; s < sequences.size(); ++s) {
      const BatchSpec one =
          s < batch.decodes.size() ? BatchSpec{{sequences[s]}, {}} : BatchSpec{{}, {sequences[s]}};
      ExpectSameBits(Compute(*cpu, in_, one, {slots[s]}, row).out,
                     RowsOf(all.out, kWidth, row, sequences[s].rows),
                     "sequence " + std::to_string(s));
      row += sequences[s].rows;
    }
  }
}

TEST_P(AttentionInvarianceTest, APromptHasTheSameBitsInAnyCutAndRowByRow) {
  const auto cpu = MakeCpu(2);
  constexpr int64_t kPrompt = 262;
  const AttentionResult whole = Compute(*cpu, in_, {{}, {{kPrompt, 0}}}, {3});
  for (const int64_t step : {64, 128, 1}) {
    AttentionResult state{.q = {}, .k_cache = in_.k_cache, .v_cache = in_.v_cache, .out = {}};
    std::vector<float> out;
    for (int64_t row = 0; row < kPrompt; row += step) {
      const SequenceSpec part{.rows = std::min(step, kPrompt - row), .start = row};
      state = Compute(*cpu, in_, step == 1 ? BatchSpec{{part}, {}} : BatchSpec{{}, {part}}, {3},
                      row, &state);
      out.insert(out.end(), state.out.begin(), state.out.end());
    }
    ExpectSameBits(out, whole.out, "steps of " + std::to_string(step));
    ExpectSameBits(state.k_cache, whole.k_cache, "k cache");
  }
}

// More threads than KV heads: splits of one sequence on several of them.
TEST_P(AttentionInvarianceTest, ALongSequenceHasTheSameBitsOnAnyNumberOfThreads) {
  Rng rng(73);
  const AttentionInputs in({.heads = 3, .kv_heads = 1, .head_dim = 64, .rotary_dim = 16}, 5,
                           MakeLayout(2, 40), rng);
  for (const BatchSpec& batch : {BatchSpec{{{1, 2400}}, {}}, BatchSpec{{{4, 1278}, {1, 700}}, {}},
                                 BatchSpec{{{1, 2047}}, {{4, 1024}}}}) {
    const auto slots = ReversedSlots(batch);
    const AttentionResult one = Compute(*MakeCpu(1), in, batch, slots);
    for (const int threads : {2, 3, 5, 12}) {
      ExpectSameBits(Compute(*MakeCpu(threads), in, batch, slots).out, one.out,
                     std::to_string(threads) + " threads");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, AttentionInvarianceTest, testing::ValuesIn(CpuIsas()), IsaOfTest);

}  // namespace
}  // namespace deltaserve
