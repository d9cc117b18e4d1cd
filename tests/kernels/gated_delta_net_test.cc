#include "tests/kernels/batch_test.h"

namespace deltaserve {
namespace {

// Outputs are normed to order 1, so that cancellation in a head's output is magnified by the norm;
// f32 state and products over up to 130 tokens.
constexpr double kGdnTolerance = 2e-4;
constexpr double kStateTolerance = 1e-5;
// Where the device works in bf16 both see the same rows and states stay f32, but products over a
// chunk may take rounded factors; a norm magnifies that as above.
constexpr double kGdnBF16Tolerance = 8 * kBF16Rounding;
constexpr double kStateBF16Tolerance = 2 * kBF16Rounding;

struct GdnShape {
  int64_t key_heads;
  int64_t value_heads;
  int64_t dk;
  int64_t dv;
  int64_t kernel;

  int64_t channels() const { return 2 * key_heads * dk + value_heads * dv; }
  ModelShape OfModel() const {
    ModelShape shape = kPublishedShape;
    shape.linear_key_head_dim = dk;
    shape.linear_value_head_dim = dv;
    shape.linear_conv_kernel_dim = kernel;
    return shape;
  }
};

// Weights of a layer and the rows and states of a batch, on the host.
struct GdnInputs {
  GdnShape shape;
  int64_t num_states;
  std::vector<float> conv_weight, a_log, dt_bias, norm_weight;
  std::vector<float> qkv, z, b, a;
  std::vector<float> conv_state, recurrent_state;

  GdnInputs(const GdnShape& s, int64_t rows, int64_t states, Rng& rng)
      : shape(s), num_states(states) {
    const int64_t hv = s.value_heads;
    conv_weight = Normal(rng, s.channels() * s.kernel, 0.5f);
    for (int64_t h = 0; h < hv; ++h) a_log.push_back(0.3f * static_cast<float>(h % 8));
    // The last head forgets at once: what a decay masked after exp turns into infinity.
    a_log.back() = 5.0f;
    dt_bias = Normal(rng, hv, 1.0f, -3.0f);
    dt_bias.back() = 3.0f;
    norm_weight = Normal(rng, s.dv, 0.3f, 1.0f);
    qkv = Normal(rng, rows * s.channels());
    z = Normal(rng, rows * hv * s.dv);
    b = Normal(rng, rows * hv, 2.0f);
    a = Normal(rng, rows * hv, 1.0f);
    conv_state = Normal(rng, states * (s.kernel - 1) * s.channels());
    recurrent_state = Normal(rng, states * hv * s.dk * s.dv, 0.3f);
  }

  // For a comparison of `device` with the reference.
  void RoundFor(const Device& device) {
    RoundInputs(device.numerics().activation, {&qkv, &z, &b, &a});
  }
};

struct GdnResult {
  std::vector<float> out, conv_state, recurrent_state;
};

// Rows [first_row, + spec.num_rows()) of `in` as `spec`, from the states given.
GdnResult Compute(Device& device,
                  const GdnInputs& in,
                  const BatchSpec& spec,
                  const std::vector<int32_t>& states,
                  int64_t first_row = 0,
                  const GdnResult* from = nullptr) {
  Session s(device);
  const GdnShape& g = in.shape;
  const int64_t n = spec.num_rows();
  const int64_t hv = g.value_heads;
  const RowBatch rows = PutBatch(s, spec, states, MakeLayout(in.num_states, 1));
  const auto put = [&](const std::vector<float>& x, int64_t width) {
    return s.PutAct(RowsOf(x, width, first_row, n), {n, width});
  };
  const TensorView conv = s.Put(from == nullptr ? in.conv_state : from->conv_state,
                                {in.num_states, g.kernel - 1, g.channels()});
  const TensorView recurrent = s.Put(from == nullptr ? in.recurrent_state : from->recurrent_state,
                                     {in.num_states, hv, g.dk, g.dv});
  const TensorView out = s.NewAct({n, hv * g.dv});
  s.ops().GatedDeltaNet({.num_key_heads = g.key_heads,
                         .num_value_heads = hv,
                         .key_head_dim = g.dk,
                         .value_head_dim = g.dv,
                         .eps = 1e-5f,
                         .rows = &rows,
                         .qkv = put(in.qkv, g.channels()),
                         .z = put(in.z, hv * g.dv),
                         .b = put(in.b, hv),
                         .a = put(in.a, hv),
                         .conv_weight = s.Put(in.conv_weight, {g.channels(), g.kernel}),
                         .a_log = s.Put(in.a_log),
                         .dt_bias = s.Put(in.dt_bias),
                         .norm_weight = s.Put(in.norm_weight),
                         .conv_state = conv,
                         .recurrent_state = recurrent,
                         .out = out},
                        s.arena());
  return {s.Floats(out), s.Floats(conv), s.Floats(recurrent)};
}

struct GdnCase {
  const char* name;
  GdnShape shape;
  BatchSpec batch;
};

std::vector<GdnCase> Cases() {
  return {{"no_rows", {1, 2, 128, 128, 4}, {}},
          {"one_decode", {2, 4, 128, 128, 4}, {{{1, 0}}, {}}},
          {"one_row_chunk", {1, 1, 128, 128, 4}, {{}, {{1, 0}}}},
          {"whole_chunk", {1, 2, 128, 128, 4}, {{}, {{64, 0}}}},
          {"ragged_chunks", {2, 2, 128, 128, 4}, {{}, {{63, 0}, {65, 64}, {130, 0}}}},
          {"mixed", {1, 4, 128, 128, 4}, {{{1, 5}, {1, 64}, {3, 9}}, {{70, 0}, {2, 128}}}},
          {"long_and_short", {1, 1, 128, 128, 4}, {{{2, 3}}, {{3, 0}, {200, 64}}}},
          {"new_sequences", {1, 3, 128, 128, 4}, {{{1, 0}, {2, 0}}, {{2, 0}, {67, 0}}}},
          {"odd_sizes", {1, 3, 5, 7, 4}, {{{1, 0}, {2, 0}}, {{67, 0}}}},
          {"odd_wide", {3, 6, 12, 41, 3}, {{{1, 0}}, {{129, 0}}}},
          {"kernel_of_one", {1, 1, 8, 16, 1}, {{{1, 0}}, {{9, 0}}}},
          {"kernel_of_two", {1, 1, 3, 1, 2}, {{{1, 0}}, {{1, 0}, {3, 0}}}}};
}

class GatedDeltaNetTest : public testing::TestWithParam<std::tuple<std::string, GdnCase>> {};

TEST_P(GatedDeltaNetTest, AgreesWithTheRecurrentRule) {
  const auto& [name, test] = GetParam();
  const auto device = MakeDevice(name);
  if (device == nullptr) GTEST_SKIP() << "no " << name;
  const absl::Status sizes = device->ops().Supports(test.shape.OfModel());
  if (IsRefusedByName(sizes)) return;
  Rng rng(21);
  const auto slots = ReversedSlots(test.batch);
  GdnInputs in(test.shape, test.batch.num_rows(), static_cast<int64_t>(slots.size()) + 1, rng);
  in.RoundFor(*device);
  const GdnResult actual = Compute(*device, in, test.batch, slots);
  const GdnResult expected = Compute(*MakeDevice("reference"), in, test.batch, slots);
  ExpectClose(actual.out, expected.out, Tolerance(*device, kGdnTolerance, kGdnBF16Tolerance));
  ExpectSameBits(actual.conv_state, expected.conv_state, "conv state");
  ExpectClose(actual.recurrent_state, expected.recurrent_state,
              Tolerance(*device, kStateTolerance, kStateBF16Tolerance), "recurrent state");
}

INSTANTIATE_TEST_SUITE_P(Cases,
                         GatedDeltaNetTest,
                         testing::Combine(testing::ValuesIn(DevicesAndShim()),
                                          testing::ValuesIn(Cases())),
                         [](const auto& param_info) {
                           return std::get<0>(param_info.param) + "_" +
                                  std::get<1>(param_info.param).name;
                         });

// Numbers computed from specification 3.5 by a program of its own, in double.
class GdnLiteralTest : public testing::TestWithParam<std::tuple<std::string, bool>> {};

TEST_P(GdnLiteralTest, GivesTheNumbersOfTheSpecification) {
  const auto& [name, decode] = GetParam();
  const auto device = MakeDevice(name);
  if (device == nullptr) GTEST_SKIP() << "no " << name;
  Rng rng(0);
  const GdnShape shape{.key_heads = 2, .value_heads = 4, .dk = 2, .dv = 3, .kernel = 4};
  const absl::Status sizes = device->ops().Supports(shape.OfModel());
  if (IsRefusedByName(sizes)) return;
  GdnInputs in(shape, 3, 1, rng);
  in.qkv = Wave(int64_t{3} * 20, 0.7, 0.3);
  in.z = Wave(int64_t{3} * 12, 0.9, 0.1);
  in.b = Wave(int64_t{3} * 4, 1.1, 0.2);
  in.a = Wave(int64_t{3} * 4, 1.3, 0.4);
  in.conv_weight = Wave(int64_t{20} * 4, 0.37, 0.6);
  in.a_log = Wave(4, 0.8, 0.5, 0.5);
  in.dt_bias = Wave(4, 0.6, 1.0, 0.5);
  in.norm_weight = Wave(3, 0.5, 0.9);
  in.conv_state = Wave(int64_t{3} * 20, 0.45, 0.7);
  in.recurrent_state = Wave(int64_t{4} * 2 * 3, 0.33, 0.15);
  const SequenceSpec rows{.rows = 3, .start = 0};
  const BatchSpec batch = decode ? BatchSpec{{rows}, {}} : BatchSpec{{}, {rows}};
  const GdnResult result = Compute(*device, in, batch, {0});
  const double tolerance = Tolerance(*device, 3e-6, kGdnBF16Tolerance);
  ExpectClose(RowsOf(result.out, 12, 0, 1),
              {0.0403331f, 0.5816927f, 0.6528069f, -0.0760760f, -0.1577111f, 0.3639223f, 0.1596292f,
               -0.0458565f, 0.7276745f, -0.3024044f, -0.2252084f, 0.2022003f},
              tolerance, "row 0");
  ExpectClose(RowsOf(result.out, 12, 2, 1),
              {-0.1922619f, 0.1670027f, -0.0738052f, 0.2186050f, 0.0508528f, 0.6271507f,
               -0.6702804f, -0.0125607f, -0.0609426f, -0.2670095f, -0.1576542f, -0.0878313f},
              tolerance, "row 2");
  ExpectClose(RowsOf(result.recurrent_state, 6, 3, 1),
              {-0.5750929f, -0.4668646f, 0.0833935f, -0.0708908f, -0.0401451f, 0.0513997f},
              tolerance, "state of head 3");
  ExpectSameBits(result.conv_state, Rounded(device->numerics().activation, in.qkv),
                 "conv state: the last three rows, before the convolution");
}

INSTANTIATE_TEST_SUITE_P(Devices,
                         GdnLiteralTest,
                         testing::Combine(testing::ValuesIn(AllDevices()), testing::Bool()));

class GdnDeviceTest : public testing::TestWithParam<std::string> {};

TEST_P(GdnDeviceTest, NormalisesANearlyZeroKeyWithEpsInsideTheRoot) {
  const auto device = MakeDevice(GetParam());
  if (device == nullptr) GTEST_SKIP() << "no " << GetParam();
  Rng rng(31);
  const GdnShape shape{.key_heads = 1, .value_heads = 1, .dk = 128, .dv = 128, .kernel = 4};
  GdnInputs in(shape, 20, 1, rng);
  in.a_log = {0.0f};
  in.dt_bias = {-2.0f};
  for (int64_t r = 0; r < 20; ++r) {
    for (int64_t c = 128; c < 256; ++c) in.qkv[static_cast<size_t>(r * 384 + c)] *= 1e-4f;
  }
  for (int64_t r = 0; r < 3; ++r) {
    for (int64_t c = 128; c < 256; ++c) in.conv_state[static_cast<size_t>(r * 384 + c)] *= 1e-4f;
  }
  in.RoundFor(*device);
  for (const bool decode : {true, false}) {
    const BatchSpec batch = decode ? BatchSpec{{{20, 0}}, {}} : BatchSpec{{}, {{20, 0}}};
    const GdnResult actual = Compute(*device, in, batch, {0});
    const GdnResult expected = Compute(*MakeDevice("reference"), in, batch, {0});
    ExpectClose(actual.recurrent_state, expected.recurrent_state,
                Tolerance(*device, kStateTolerance, kStateBF16Tolerance));
  }
}

TEST_P(GdnDeviceTest, SoftplusIsLinearAboveTwentyAndStateSurvivesExtremeGates) {
  const auto device = MakeDevice(GetParam());
  if (device == nullptr) GTEST_SKIP() << "no " << GetParam();
  Rng rng(33);
  const GdnShape shape{.key_heads = 1, .value_heads = 2, .dk = 128, .dv = 128, .kernel = 4};
  GdnInputs in(shape, 66, 1, rng);
  in.a_log = {-12.0f, 3.0f};  // exp(-12) * 200 is a decay that can be seen
  in.dt_bias = {0.0f, 0.0f};
  for (size_t i = 0; i < in.a.size(); ++i) in.a[i] = i % 3 == 0 ? 200.0f : -200.0f;
  in.RoundFor(*device);
  for (const bool decode : {true, false}) {
    const BatchSpec batch = decode ? BatchSpec{{{66, 0}}, {}} : BatchSpec{{}, {{66, 0}}};
    const GdnResult actual = Compute(*device, in, batch, {0});
    const GdnResult expected = Compute(*MakeDevice("reference"), in, batch, {0});
    ExpectClose(actual.out, expected.out, Tolerance(*device, kGdnTolerance, kGdnBF16Tolerance));
    ExpectClose(actual.recurrent_state, expected.recurrent_state,
                Tolerance(*device, kStateTolerance, kStateBF16Tolerance));
  }
}

// A head that keeps everything, one that keeps nothing and one that forgets all now and then: what
// is summed over rows, what a chunk hands on, and differences of large sums of decays. Where
// factors are rounded to bf16 the first one's state keeps the errors of all rows.
TEST_P(GdnDeviceTest, KeepsAndForgetsOverChunks) {
  const auto device = MakeDevice(GetParam());
  if (device == nullptr) GTEST_SKIP() << "no " << GetParam();
  Rng rng(35);
  const GdnShape shape{.key_heads = 1, .value_heads = 3, .dk = 128, .dv = 128, .kernel = 4};
  constexpr int64_t kRows = 100;
  GdnInputs in(shape, kRows, 1, rng);
  in.a_log = {-12.0f, 4.0f, 5.0f};
  in.dt_bias = {0.0f, 4.0f, -15.0f};
  for (int64_t r = 0; r < kRows; ++r) {
    in.b[static_cast<size_t>(r * 3)] += 4.0f;  // and writes all that is new
    in.a[static_cast<size_t>(r * 3 + 2)] = r % 24 == 23 ? 60.0f : 0.0f;
  }
  in.RoundFor(*device);
  const GdnResult actual = Compute(*device, in, {{}, {{kRows, 0}}}, {0});
  const GdnResult expected = Compute(*MakeDevice("reference"), in, {{}, {{kRows, 0}}}, {0});
  ExpectClose(actual.out, expected.out, Tolerance(*device, kGdnTolerance, kGdnBF16Tolerance));
  ExpectClose(actual.recurrent_state, expected.recurrent_state,
              Tolerance(*device, kStateTolerance, 2 * kStateBF16Tolerance));
}

INSTANTIATE_TEST_SUITE_P(Devices, GdnDeviceTest, testing::ValuesIn(DevicesAndShim()));

// Promise 2, the bits of a sequence, on the CPU's instruction sets and on CUDA.
class GdnInvarianceTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!IsCpu() && MakeDevice(GetParam()) == nullptr) GTEST_SKIP() << "no " << GetParam();
  }

  static bool IsCpu() {
    const auto isas = CpuIsas();
    return std::find(isas.begin(), isas.end(), GetParam()) != isas.end();
  }
  // `variant`, which must not show: of the CPU its threads, of the shim its order of threads and
  // blocks.
  static std::unique_ptr<Device> Make(int variant) {
    if (IsCpu()) return MakeCpu(variant, GetParam());
    if (GetParam() == "cuda_shim") return cuda::CreateShimDevice(static_cast<uint64_t>(variant));
    return MakeDevice(GetParam());
  }

  GdnInvarianceTest() : rng_(41), in_(kShape, kRows, kStates, rng_) {}

  static constexpr GdnShape kShape{
      .key_heads = 2, .value_heads = 4, .dk = 128, .dv = 128, .kernel = 4};
  static constexpr int64_t kRows = 300;
  static constexpr int64_t kStates = 7;
  static constexpr int64_t kWidth = int64_t{4} * 128;

  // Bits of one state of a result.
  static std::vector<float> StateOf(const GdnResult& r, int64_t state) {
    auto bits = RowsOf(r.recurrent_state, int64_t{4} * 128 * 128, state, 1);
    const auto conv = RowsOf(r.conv_state, 3 * kShape.channels(), state, 1);
    bits.insert(bits.end(), conv.begin(), conv.end());
    return bits;
  }

  Rng rng_;
  GdnInputs in_;
};

TEST_P(GdnInvarianceTest, ASequenceAloneHasTheBitsItHasInABatch) {
  const BatchSpec batch{{{1, 3}, {1, 70}, {2, 5}}, {{130, 0}, {1, 64}, {64, 0}, {63, 128}}};
  const auto slots = ReversedSlots(batch);
  const GdnResult all = Compute(*Make(1), in_, batch, slots);
  for (int variant = IsCpu() ? 1 : 3; variant <= 3; ++variant) {
    const auto device = Make(variant);
    const GdnResult same = Compute(*device, in_, batch, slots);
    ExpectSameBits(same.out, all.out, "variants");
    ExpectSameBits(same.recurrent_state, all.recurrent_state, "variants");
    int64_t row = 0;
    const auto sequences = batch.sequences();
    for (size_t s = 0; s < sequences.size(); ++s) {
      const BatchSpec one =
          s < batch.decodes.size() ? BatchSpec{{sequences[s]}, {}} : BatchSpec{{}, {sequences[s]}};
      const GdnResult alone = Compute(*device, in_, one, {slots[s]}, row);
      const std::string what = "sequence " + std::to_string(s);
      ExpectSameBits(alone.out, RowsOf(all.out, kWidth, row, sequences[s].rows), what);
      ExpectSameBits(StateOf(alone, slots[s]), StateOf(all, slots[s]), what);
      row += sequences[s].rows;
    }
  }
}

TEST_P(GdnInvarianceTest, CutsAtMultiplesOfSixtyFourChangeNoBit) {
  const auto device = Make(2);
  const GdnResult whole = Compute(*device, in_, {{}, {{130, 0}}}, {2});
  for (const std::vector<int64_t>& cut :
       {std::vector<int64_t>{64, 64, 2}, std::vector<int64_t>{128, 2},
        std::vector<int64_t>{64, 66}}) {
    GdnResult state{
        .out = {}, .conv_state = in_.conv_state, .recurrent_state = in_.recurrent_state};
    std::vector<float> out;
    int64_t row = 0;
    for (const int64_t n : cut) {
      state = Compute(*device, in_, {{}, {{n, row}}}, {2}, row, &state);
      out.insert(out.end(), state.out.begin(), state.out.end());
      row += n;
    }
    ExpectSameBits(out, whole.out, "out");
    ExpectSameBits(state.recurrent_state, whole.recurrent_state, "recurrent state");
    ExpectSameBits(state.conv_state, whole.conv_state, "conv state");
  }
}

TEST_P(GdnInvarianceTest, ARowOfAChunkDoesNotDependOnLaterRows) {
  const auto device = Make(1);
  const GdnResult whole = Compute(*device, in_, {{}, {{64, 0}}}, {0});
  for (const int64_t n : {1, 2, 7, 33, 63}) {
    ExpectSameBits(Compute(*device, in_, {{}, {{n, 0}}}, {0}).out, RowsOf(whole.out, kWidth, 0, n),
                   std::to_string(n) + " rows");
  }
}

TEST_P(GdnInvarianceTest, SeveralDecodeRowsAreAsManyDecodes) {
  const auto device = Make(2);
  const GdnResult together = Compute(*device, in_, {{{3, 7}}, {}}, {1});
  GdnResult state{.out = {}, .conv_state = in_.conv_state, .recurrent_state = in_.recurrent_state};
  for (int64_t r = 0; r < 3; ++r) {
    state = Compute(*device, in_, {{{1, 7 + r}}, {}}, {1}, r, &state);
    ExpectSameBits(state.out, RowsOf(together.out, kWidth, r, 1), "row " + std::to_string(r));
  }
  ExpectSameBits(StateOf(state, 1), StateOf(together, 1), "state");
}

TEST_P(GdnInvarianceTest, OtherStatesAreLeftAlone) {
  const GdnResult result = Compute(*Make(2), in_, {{{1, 0}}, {{5, 0}}}, {1, 4});
  const GdnResult before{
      .out = {}, .conv_state = in_.conv_state, .recurrent_state = in_.recurrent_state};
  for (const int64_t state : {0, 2, 3, 5, 6}) {
    ExpectSameBits(StateOf(result, state), StateOf(before, state), std::to_string(state));
  }
}

std::vector<std::string> InvariantDevices() {
  std::vector<std::string> names = CpuIsas();
  for (const std::string& name : DevicesAndShim()) {
    if (name.starts_with("cuda")) names.push_back(name);
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(Devices,
                         GdnInvarianceTest,
                         testing::ValuesIn(InvariantDevices()),
                         IsaOfTest);

}  // namespace
}  // namespace deltaserve
