// RmsNorm, AddRmsNorm and SiluMul.

#include "tests/kernels/op_test.h"

namespace deltaserve {
namespace {

// One f32 sum of squares and a handful of roundings.
constexpr double kNormTolerance = 2e-6;
// And the result rounded.
constexpr double kNormBF16Tolerance = kBF16Rounding + kNormTolerance;
constexpr float kEps = 1e-6f;

struct RowsShape {
  int64_t rows;
  int64_t width;
};

const RowsShape kShapes[] = {{0, 8},  {1, 1},   {1, 7},     {2, 8},
                             {3, 33}, {5, 256}, {33, 1024}, {7, 5121}};

struct Inputs {
  RowsShape shape;
  std::vector<float> x;
  std::vector<float> delta;
  std::vector<float> weight;

  Inputs(const RowsShape& s, Rng& rng)
      : shape(s),
        x(Normal(rng, s.rows * s.width, 3.0f)),
        delta(Normal(rng, s.rows * s.width)),
        weight(Normal(rng, s.width, 0.3f, 1.0f)) {}

  // For a comparison of `device` with the reference. x is also the gate of SiluMul.
  void RoundFor(const Device& device) {
    RoundInputs(device.numerics().activation, {&x, &delta});
    RoundInputs(device.numerics().reduction, {&delta});
  }
};

struct Result {
  std::vector<float> norm;
  std::vector<float> residual;
  std::vector<float> add_norm;
  std::vector<float> silu_mul;
};

Result Compute(Device& device, const Inputs& in, int64_t begin, int64_t count) {
  Session s(device);
  const int64_t width = in.shape.width;
  const TensorView x = s.Put(RowsOf(in.x, width, begin, count), {count, width});
  const TensorView residual = s.Put(RowsOf(in.x, width, begin, count), {count, width});
  const TensorView delta = s.PutReduction(RowsOf(in.delta, width, begin, count), {count, width});
  const TensorView weight = s.Put(in.weight);
  const TensorView norm = s.NewAct({count, width});
  s.ops().RmsNorm({.x = x, .weight = weight, .eps = kEps, .out = norm});
  // The output may be the delta where one dtype has both roles.
  const TensorView add_norm =
      s.numerics().reduction == s.numerics().activation ? delta : s.NewAct({count, width});
  s.ops().AddRmsNorm(
      {.delta = delta, .residual = residual, .weight = weight, .eps = kEps, .out = add_norm});
  std::vector<float> pairs;
  for (int64_t r = begin; r < begin + count; ++r) {
    for (const auto* half : {&in.x, &in.delta}) {
      const auto row = RowsOf(*half, width, r, 1);
      pairs.insert(pairs.end(), row.begin(), row.end());
    }
  }
  const TensorView gate_up = s.PutAct(pairs, {count, 2 * width});
  const TensorView act = s.NewAct({count, width});
  s.ops().SiluMul({.gate_up = gate_up, .out = act});
  return {s.Floats(norm), s.Floats(residual), s.Floats(add_norm), s.Floats(act)};
}

class NormTest : public testing::TestWithParam<std::tuple<std::string, RowsShape>> {};

TEST_P(NormTest, AgreesWithTheReference) {
  const auto& [name, shape] = GetParam();
  const auto device = MakeDevice(name);
  if (device == nullptr) GTEST_SKIP() << "no " << name;
  Rng rng(3);
  Inputs in(shape, rng);
  in.RoundFor(*device);
  const Result actual = Compute(*device, in, 0, shape.rows);
  const Result expected = Compute(*MakeDevice("reference"), in, 0, shape.rows);
  const double tolerance = Tolerance(*device, kNormTolerance, kNormBF16Tolerance);
  ExpectClose(actual.norm, expected.norm, tolerance, "norm");
  ExpectSameBits(actual.residual, expected.residual, "residual");
  ExpectClose(actual.add_norm, expected.add_norm, tolerance, "add norm");
  ExpectClose(actual.silu_mul, expected.silu_mul, tolerance, "silu mul");
}

INSTANTIATE_TEST_SUITE_P(Shapes,
                         NormTest,
                         testing::Combine(testing::ValuesIn(DevicesAndShim()),
                                          testing::ValuesIn(kShapes)));

// A delta in parts gives the bits of their sum in order, on every path of the sum. Parts are f32
// on every device.
TEST_P(NormTest, AddsPartsInOrder) {
  const auto& [name, shape] = GetParam();
  const auto device = MakeDevice(name);
  if (device == nullptr) GTEST_SKIP() << "no " << name;
  Rng rng(11);
  const Inputs in(shape, rng);
  for (const int64_t parts : {1, 2, 3}) {
    const std::vector<float> deltas = Normal(rng, parts * shape.rows * shape.width, 100.0f);
    std::vector<float> sum = RowsOf(deltas, shape.width, 0, shape.rows);
    for (size_t i = sum.size(); i < deltas.size(); ++i) sum[i % sum.size()] += deltas[i];
    Session s(*device);
    const TensorView weight = s.Put(in.weight);
    const TensorView summed = s.Put(in.x, {shape.rows, shape.width});
    const TensorView summed_out = s.NewAct({shape.rows, shape.width});
    s.ops().AddRmsNorm({.delta = s.Put(sum, {shape.rows, shape.width}),
                        .residual = summed,
                        .weight = weight,
                        .eps = kEps,
                        .out = summed_out});
    const TensorView added = s.Put(in.x, {shape.rows, shape.width});
    const TensorView added_out = s.NewAct({shape.rows, shape.width});
    s.ops().AddRmsNorm({.delta = s.Put(deltas, {parts, shape.rows, shape.width}),
                        .residual = added,
                        .weight = weight,
                        .eps = kEps,
                        .out = added_out});
    ExpectSameBits(s.Floats(added), s.Floats(summed), "residual");
    ExpectSameBits(s.Floats(added_out), s.Floats(summed_out), "out");
  }
}

class NormLiteralTest : public testing::TestWithParam<std::string> {};

TEST_P(NormLiteralTest, DividesByTheRootOfTheMeanAndUsesTheWeightAsItIs) {
  const auto device = MakeDevice(GetParam());
  if (device == nullptr) GTEST_SKIP() << "no " << GetParam();
  Session s(*device);
  const TensorView out = s.NewAct({1, 4});
  s.ops().RmsNorm({.x = s.Put(std::vector<float>{1, -2, 3, 1}, {1, 4}),
                   .weight = s.Put(std::vector<float>{1, 2, 0, -1}),
                   .eps = 0.25f,
                   .out = out});
  // mean of squares 3.75, + eps = 4
  ExpectClose(s.Floats(out), {0.5f, -2.0f, 0.0f, -0.5f}, 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Devices, NormLiteralTest, testing::ValuesIn(AllDevicesAndShim()));

using NormInvarianceTest = CpuIsaTest;

TEST_P(NormInvarianceTest, ARowsBitsDependOnNeitherRowsNorThreads) {
  Rng rng(5);
  const Inputs in({.rows = 40, .width = 1031}, rng);
  const Result all = Compute(*MakeCpu(1), in, 0, 40);
  for (int threads = 1; threads <= 3; ++threads) {
    const auto cpu = MakeCpu(threads);
    for (int64_t n = 1; n <= 33; ++n) {
      const Result some = Compute(*cpu, in, 40 - n, n);
      const std::string what = std::to_string(n) + " rows";
      ExpectSameBits(some.norm, RowsOf(all.norm, 1031, 40 - n, n), what);
      ExpectSameBits(some.add_norm, RowsOf(all.add_norm, 1031, 40 - n, n), what);
      ExpectSameBits(some.silu_mul, RowsOf(all.silu_mul, 1031, 40 - n, n), what);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, NormInvarianceTest, testing::ValuesIn(CpuIsas()), IsaOfTest);

}  // namespace
}  // namespace deltaserve
