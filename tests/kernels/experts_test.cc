// RouteExperts and Experts.

#include "gmock/gmock.h"
#include "tests/kernels/batch_test.h"

namespace deltaserve {
namespace {

using testing::ElementsAre;

// Two chained products and a sum over experts.
constexpr double kExpertsTolerance = 1e-5;
constexpr double kWeightTolerance = 1e-6;
// Where the device works in bf16 both see the same x: it rounds what is between the products, what
// an expert gives, and the result.
constexpr double kExpertsBF16Tolerance = 3 * kBF16Rounding;
// And gate and up, where a library makes them.
constexpr double kLibraryBF16Tolerance = 5 * kBF16Rounding;

// Whether the device refuses such experts: CUDA's products read 16 bytes at a time (CudaExpertsTest
// has how it says so).
bool IsRefused(const Device& device, int64_t hidden, int64_t width) {
  return device.Name().starts_with("cuda") && (hidden % 8 != 0 || width % 8 != 0);
}

// And all but the products of CUTLASS over the shim.
std::vector<std::string> ExpertsDevices() {
  std::vector<std::string> names = DevicesAndShim();
  if (names.back() == "cuda_shim") names.emplace_back("cuda_shim_cutlass");
  return names;
}
std::vector<std::string> AllExpertsDevices() {
  std::vector<std::string> names = ExpertsDevices();
  names.emplace_back("reference");
  return names;
}

double ExpertsTolerance(const std::string& name, const Device& device) {
  const bool library = name == "cuda_libraries" || name == "cuda_shim_cutlass";
  return Tolerance(device, kExpertsTolerance,
                   library ? kLibraryBF16Tolerance : kExpertsBF16Tolerance);
}

struct RouteResult {
  std::vector<int32_t> experts;
  std::vector<float> weights;
};

RouteResult Route(Device& device,
                  const std::vector<float>& logits,
                  int64_t num_experts,
                  int64_t top_k,
                  bool normalize) {
  Session s(device);
  const int64_t rows = static_cast<int64_t>(logits.size()) / num_experts;
  const TensorView experts = s.NewI32({rows, top_k});
  const TensorView weights = s.NewF32({rows, top_k});
  s.ops().RouteExperts({.logits = s.Put(logits, {rows, num_experts}),
                        .normalize = normalize,
                        .experts = experts,
                        .weights = weights});
  return {s.Get<int32_t>(experts), s.Floats(weights)};
}

struct RouteShape {
  int64_t rows;
  int64_t experts;
  int64_t top_k;
};

const RouteShape kRouteShapes[] = {{0, 4, 2},   {1, 1, 1},     {3, 5, 5},  {2, 17, 3},
                                   {7, 256, 8}, {33, 512, 10}, {5, 40, 16}};

class RouteExpertsTest : public testing::TestWithParam<std::tuple<std::string, RouteShape, bool>> {
};

TEST_P(RouteExpertsTest, AgreesWithTheReference) {
  const auto& [name, shape, normalize] = GetParam();
  const auto device = MakeDevice(name);
  if (device == nullptr) GTEST_SKIP() << "no " << name;
  Rng rng(81);
  const auto logits = Normal(rng, shape.rows * shape.experts, 3.0f);
  const RouteResult actual = Route(*device, logits, shape.experts, shape.top_k, normalize);
  const RouteResult expected =
      Route(*MakeDevice("reference"), logits, shape.experts, shape.top_k, normalize);
  EXPECT_EQ(actual.experts, expected.experts);
  ExpectClose(actual.weights, expected.weights, kWeightTolerance);
}

INSTANTIATE_TEST_SUITE_P(Shapes,
                         RouteExpertsTest,
                         testing::Combine(testing::ValuesIn(DevicesAndShim()),
                                          testing::ValuesIn(kRouteShapes),
                                          testing::Bool()));

struct ExpertsShape {
  int64_t rows;
  int64_t hidden;
  int64_t width;
  int64_t num_experts;  // of the model
  int64_t top_k;
  int64_t first;  // held here
  int64_t held;
  bool shared;
};

const ExpertsShape kExpertsShapes[] = {
    {0, 8, 4, 2, 1, 0, 2, true},
    {1, 1, 1, 1, 1, 0, 1, false},
    {1, 64, 32, 8, 2, 0, 8, true},
    {3, 33, 17, 5, 5, 0, 5, true},
    {9, 70, 100, 16, 4, 4, 8, false},
    {1, 40, 24, 16, 1, 0, 0, true},
    {130, 48, 40, 3, 2, 0, 3, true},
    {200, 300, 70, 4, 1, 1, 2, false},
    // Steps of the depth that are whole, and a rest; columns that fill no tile.
    {2, 1064, 136, 4, 2, 0, 4, true},
    {17, 328, 200, 6, 2, 2, 3, true},
    {140, 264, 72, 1, 1, 0, 1, true},
};

struct ExpertsInputs {
  ExpertsShape shape;
  DType dtype;
  std::vector<float> x, gate_up, down, shared, shared_gate, weights;
  std::vector<int32_t> experts;

  ExpertsInputs(const ExpertsShape& s, DType type, Rng& rng) : shape(s), dtype(type) {
    x = Normal(rng, s.rows * s.hidden);
    gate_up = Normal(rng, s.held * 2 * s.width * s.hidden,
                     1.0f / std::sqrt(static_cast<float>(s.hidden)));
    down = Normal(rng, s.held * s.hidden * s.width, 1.0f / std::sqrt(static_cast<float>(s.width)));
    for (auto* weight : {&gate_up, &down}) {
      for (float& w : *weight) w = ToFloat(ToBFloat16(w));
    }
    shared = Normal(rng, s.rows * s.hidden);
    shared_gate = Normal(rng, s.rows);
    const RouteResult route =
        Route(*MakeDevice("reference"), Normal(rng, s.rows * s.num_experts, 2.0f), s.num_experts,
              s.top_k, true);
    experts = route.experts;
    weights = route.weights;
  }

  // For a comparison of `device` with the reference.
  void RoundFor(const Device& device) {
    RoundInputs(device.numerics().activation, {&x, &shared, &shared_gate});
  }
};

std::vector<float> Compute(Device& device, const ExpertsInputs& in, int64_t begin, int64_t count) {
  Session s(device);
  const ExpertsShape& e = in.shape;
  const auto buffer = [&](const std::vector<float>& values) {
    return in.dtype == DType::kF32 ? HostBuffer(values) : HostBuffer(ToBFloat16s(values));
  };
  const auto weights =
      s.ops()
          .PackExperts(buffer(in.gate_up), buffer(in.down), in.dtype, e.held, e.hidden, e.width)
          .value();
  EXPECT_EQ(weights->num_experts(), e.held);
  ExpertsArgs args;
  args.x = s.PutAct(RowsOf(in.x, e.hidden, begin, count), {count, e.hidden});
  args.experts = s.Put(RowsOf(in.experts, e.top_k, begin, count), {count, e.top_k});
  args.weights = s.Put(RowsOf(in.weights, e.top_k, begin, count), {count, e.top_k});
  args.expert_weights = weights.get();
  args.first_expert = e.first;
  args.out = s.NewReduction({count, e.hidden});
  if (e.shared && count > 0) {
    args.shared = s.PutAct(RowsOf(in.shared, e.hidden, begin, count), {count, e.hidden});
    args.shared_gate = s.PutAct(RowsOf(in.shared_gate, 1, begin, count), {count, 1});
  }
  s.ops().Experts(args, s.arena());
  return s.Floats(args.out);
}

class ExpertsTest : public testing::TestWithParam<std::tuple<std::string, ExpertsShape, DType>> {};

TEST_P(ExpertsTest, AgreesWithTheReference) {
  const auto& [name, shape, dtype] = GetParam();
  const auto device = MakeDevice(name);
  if (device == nullptr) GTEST_SKIP() << "no " << name;
  if (IsRefused(*device, shape.hidden, shape.width)) return;
  Rng rng(83);
  ExpertsInputs in(shape, dtype, rng);
  in.RoundFor(*device);
  ExpectClose(Compute(*device, in, 0, shape.rows),
              Compute(*MakeDevice("reference"), in, 0, shape.rows),
              ExpertsTolerance(name, *device));
}

INSTANTIATE_TEST_SUITE_P(Shapes,
                         ExpertsTest,
                         testing::Combine(testing::ValuesIn(ExpertsDevices()),
                                          testing::ValuesIn(kExpertsShapes),
                                          testing::Values(DType::kBF16, DType::kF32)));

// Which experts rows choose.
enum class Routing {
  kRandom,
  kSame,    // all rows the same
  kSpread,  // each row its own, as far as they go
};

struct RoutingCase {
  int64_t rows;
  int64_t num_experts;
  int64_t top_k;
  Routing routing;
  int64_t first = 0;  // held here: up to 1000 experts from it
  bool shared = true;
};

// Row counts on both sides of where devices change their way, experts with many rows and with none.
const RoutingCase kRoutingCases[] = {
    {1, 64, 8, Routing::kRandom},     {1, 64, 1, Routing::kSame, 1},
    {2, 8, 2, Routing::kSame},        {8, 64, 8, Routing::kSpread, 30},
    {9, 64, 8, Routing::kRandom},     {16, 64, 16, Routing::kRandom, 32, false},
    {16, 5, 1, Routing::kSame},       {17, 64, 1, Routing::kSpread},
    {17, 64, 8, Routing::kSame, 0},   {100, 64, 8, Routing::kRandom},
    {30, 64, 2, Routing::kSpread, 7}, {100, 64, 1, Routing::kSame, 0, false},
    {40, 64, 2, Routing::kSame, 2},   {150, 3, 2, Routing::kRandom},
    {700, 4, 3, Routing::kRandom, 1}, {1100, 40, 1, Routing::kSame},
    {60, 200, 3, Routing::kSpread},  // more tiles than a GPU has processors
};

// The reference takes the time here: one CPU device is enough beside those that change their way.
std::vector<std::string> RoutingDevices() {
  std::vector<std::string> names = {"cpu_1_thread"};
  for (const std::string& name : ExpertsDevices()) {
    if (name.rfind("cuda", 0) == 0) names.push_back(name);
  }
  return names;
}

class ExpertsRoutingTest : public testing::TestWithParam<std::tuple<std::string, RoutingCase>> {
 protected:
  void SetUp() override {
    device_ = MakeDevice(std::get<0>(GetParam()));
    if (device_ == nullptr) GTEST_SKIP() << "no " << std::get<0>(GetParam());
  }

  // Hidden size and width of 8 k that fill no tile, smaller where there are many rows.
  static ExpertsInputs Inputs(const RoutingCase& c) {
    const bool many = c.rows > 200;
    Rng rng(91);
    ExpertsInputs in({.rows = c.rows,
                      .hidden = many ? 16 : 72,
                      .width = many ? 8 : 40,
                      .num_experts = c.num_experts,
                      .top_k = c.top_k,
                      .first = c.first,
                      .held = c.num_experts - c.first,
                      .shared = c.shared},
                     DType::kBF16, rng);
    for (size_t i = 0; i < in.experts.size() && c.routing != Routing::kRandom; ++i) {
      const auto row = static_cast<int64_t>(i) / c.top_k;
      const int64_t first =
          c.routing == Routing::kSame ? 0 : row * c.top_k % (c.num_experts - c.top_k + 1);
      in.experts[i] = static_cast<int32_t>(first + static_cast<int64_t>(i) % c.top_k);
    }
    return in;
  }

  std::unique_ptr<Device> device_;
};

TEST_P(ExpertsRoutingTest, AgreesWithTheReference) {
  ExpertsInputs in = Inputs(std::get<1>(GetParam()));
  in.RoundFor(*device_);
  ExpectClose(Compute(*device_, in, 0, in.shape.rows),
              Compute(*MakeDevice("reference"), in, 0, in.shape.rows),
              ExpertsTolerance(std::get<0>(GetParam()), *device_));
}

INSTANTIATE_TEST_SUITE_P(Routings,
                         ExpertsRoutingTest,
                         testing::Combine(testing::ValuesIn(RoutingDevices()),
                                          testing::ValuesIn(kRoutingCases)));

class ExpertsDeviceTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    device_ = MakeDevice(GetParam());
    if (device_ == nullptr) GTEST_SKIP() << "no " << GetParam();
  }
  std::unique_ptr<Device> device_;
};

// Numbers computed from specification 3.7 by a program of its own, in double.
TEST_P(ExpertsDeviceTest, GiveTheNumbersOfTheSpecification) {
  if (IsRefused(*device_, 3, 2)) return;
  const auto logits = Wave(5, 1.7, 0.3);
  const RouteResult raw = Route(*device_, logits, 5, 2, false);
  EXPECT_THAT(raw.experts, ElementsAre(1, 4));
  ExpectClose(raw.weights, {0.3572167f, 0.2982745f}, kWeightTolerance);
  const RouteResult route = Route(*device_, logits, 5, 2, true);
  ExpectClose(route.weights, {0.5449603f, 0.4550397f}, kWeightTolerance);
  Rng rng(0);
  ExpertsInputs in({.rows = 1,
                    .hidden = 3,
                    .width = 2,
                    .num_experts = 5,
                    .top_k = 2,
                    .first = 0,
                    .held = 5,
                    .shared = true},
                   DType::kF32, rng);
  in.x = Wave(3, 0.9, 0.2);
  in.gate_up = Wave(int64_t{5} * 2 * 2 * 3, 0.31, 0.5);
  in.down = Wave(int64_t{5} * 3 * 2, 0.47, 0.25);
  in.shared = Wave(3, 0.8, 0.6);
  in.shared_gate = {0.4f};
  in.experts = route.experts;
  in.weights = route.weights;
  // The numbers are of inputs in f32: those of a row and of the weights are rounded too.
  ExpectClose(Compute(*device_, in, 0, 1), {0.3480189f, 0.9117936f, 0.8536700f},
              Tolerance(*device_, 1e-6, 2 * kExpertsBF16Tolerance));
}

TEST_P(ExpertsDeviceTest, TiesGoToTheLowestExpert) {
  const RouteResult route = Route(*device_, {1, 3, 3, 0, 3, 1, 1, 1, 1, 1, 1, 1}, 6, 2, true);
  EXPECT_THAT(route.experts, ElementsAre(1, 2, 0, 1));
  ExpectClose(route.weights, {0.5f, 0.5f, 0.5f, 0.5f}, kWeightTolerance);
}

TEST_P(ExpertsDeviceTest, LargeLogitsDoNotOverflow) {
  const RouteResult route = Route(*device_, {500, 400, -500, 499}, 4, 2, true);
  EXPECT_THAT(route.experts, ElementsAre(0, 3));
  ExpectClose(route.weights, {0.7310586f, 0.2689414f}, kWeightTolerance);
}

TEST_P(ExpertsDeviceTest, PartsHeldByRanksAddUpToTheWhole) {
  Rng rng(85);
  const ExpertsShape shape{.rows = 5,
                           .hidden = 24,
                           .width = 16,
                           .num_experts = 6,
                           .top_k = 3,
                           .first = 0,
                           .held = 6,
                           .shared = false};
  const ExpertsInputs whole(shape, DType::kF32, rng);
  std::vector<float> sum(120, 0.0f);
  for (const int64_t first : {0, 2, 4}) {
    ExpertsInputs part = whole;
    part.shape.first = first;
    part.shape.held = 2;
    part.gate_up = RowsOf(whole.gate_up, int64_t{2} * 16 * 24, first, 2);
    part.down = RowsOf(whole.down, int64_t{16} * 24, first, 2);
    const auto out = Compute(*device_, part, 0, 5);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += out[i];
  }
  ExpectClose(sum, Compute(*device_, whole, 0, 5),
              Tolerance(*device_, kExpertsTolerance, 2 * kExpertsBF16Tolerance));
}

// Of few rows and of many.
TEST_P(ExpertsDeviceTest, ARowThatIsNoNumberSpoilsNoOther) {
  for (const int64_t rows : {5, 12, 40}) {
    Rng rng(93);
    ExpertsInputs in({.rows = rows,
                      .hidden = 40,
                      .width = 24,
                      .num_experts = 4,
                      .top_k = 2,
                      .first = 0,
                      .held = 4,
                      .shared = true},
                     DType::kBF16, rng);
    const auto clean = Compute(*device_, in, 0, rows);
    std::fill_n(in.x.begin() + ptrdiff_t{3} * 40, 40, NAN);
    const auto out = Compute(*device_, in, 0, rows);
    ExpectSameBits(RowsOf(out, 40, 0, 3), RowsOf(clean, 40, 0, 3), "rows before");
    ExpectSameBits(RowsOf(out, 40, 4, rows - 4), RowsOf(clean, 40, 4, rows - 4), "rows after");
    EXPECT_THAT(RowsOf(out, 40, 3, 1), testing::Each(testing::IsNan()));
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, ExpertsDeviceTest, testing::ValuesIn(AllExpertsDevices()));

using ExpertsInvarianceTest = CpuIsaTest;

TEST_P(ExpertsInvarianceTest, ARowsBitsDependOnNeitherRowsNorThreads) {
  Rng rng(87);
  const ExpertsShape shape{.rows = 120,
                           .hidden = 150,
                           .width = 90,
                           .num_experts = 4,
                           .top_k = 2,
                           .first = 0,
                           .held = 4,
                           .shared = true};
  const ExpertsInputs in(shape, DType::kBF16, rng);
  const auto all = Compute(*MakeCpu(1), in, 0, shape.rows);
  for (int threads = 1; threads <= 3; ++threads) {
    const auto cpu = MakeCpu(threads);
    ExpectSameBits(Compute(*cpu, in, 0, shape.rows), all, "threads");
    for (int64_t n = 1; n <= 33; ++n) {
      ExpectSameBits(Compute(*cpu, in, 70, n), RowsOf(all, shape.hidden, 70, n),
                     std::to_string(n) + " rows");
    }
  }
}

TEST_P(ExpertsInvarianceTest, ARoutedRowsBitsDependOnNeitherRowsNorThreads) {
  Rng rng(89);
  const auto logits = Normal(rng, int64_t{40} * 512, 2.0f);
  for (const bool normalize : {false, true}) {
    const RouteResult all = Route(*MakeCpu(1), logits, 512, 10, normalize);
    for (int threads = 1; threads <= 3; ++threads) {
      const auto cpu = MakeCpu(threads);
      for (const int64_t n : {1, 2, 7, 33, 40}) {
        const RouteResult some = Route(*cpu, RowsOf(logits, 512, 40 - n, n), 512, 10, normalize);
        EXPECT_EQ(some.experts, RowsOf(all.experts, 10, 40 - n, n));
        ExpectSameBits(some.weights, RowsOf(all.weights, 10, 40 - n, n), std::to_string(n));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, ExpertsInvarianceTest, testing::ValuesIn(CpuIsas()), IsaOfTest);

}  // namespace
}  // namespace deltaserve
