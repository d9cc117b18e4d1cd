#include "tests/kernels/op_test.h"

namespace deltaserve {
namespace {

// f32 chains of 256 terms of size 1 / sqrt(in): a few units of rounding of a sum of order 1.
constexpr double kLinearTolerance = 5e-6;
// Products of bf16 are exact in f32, but the units that add them keep fewer bits of a sum's terms.
constexpr double kLinearBF16Tolerance = 2e-5;

struct LinearShape {
  int64_t rows;
  int64_t out;
  int64_t in;
};

const LinearShape kShapes[] = {{0, 5, 3},
                               {1, 1, 1},
                               {1, 16, 256},
                               {1, 67, 300},
                               {2, 33, 7},
                               {3, 64, 513},
                               {4, 15, 31},
                               {5, 80, 64},
                               {6, 130, 17},
                               {7, 1, 1025},
                               {13, 100, 256},
                               {97, 48, 40},
                               {200, 31, 70},
                               {12, 96, 129},
                               {25, 65, 257},
                               {515, 70, 140},
                               // for a device that treats few rows and rows of eights apart
                               {1, 23, 1032},
                               {2, 70, 2056},
                               {3, 9, 4104},
                               {8, 34, 1544}};

struct LinearInputs {
  LinearShape shape;
  DType dtype;
  std::vector<float> x;
  std::vector<float> weight;  // representable in dtype

  LinearInputs(const LinearShape& s, DType type, Rng& rng) : shape(s), dtype(type) {
    x = Normal(rng, s.rows * s.in);
    weight = Normal(rng, s.out * s.in, 1.0f / std::sqrt(static_cast<float>(s.in)));
    for (float& w : weight) w = ToFloat(ToBFloat16(w));
  }
};

std::vector<float> Compute(Device& device,
                           const LinearInputs& in,
                           int64_t begin,
                           int64_t count,
                           DType out_dtype = DType::kF32) {
  Session session(device);
  Buffer buffer =
      in.dtype == DType::kF32 ? HostBuffer(in.weight) : HostBuffer(ToBFloat16s(in.weight));
  const auto weight =
      session.ops()
          .PackLinear(std::move(buffer), in.dtype, in.shape.out, in.shape.in, Precision::kExact)
          .value();
  EXPECT_EQ(weight->out_features(), in.shape.out);
  EXPECT_EQ(weight->in_features(), in.shape.in);
  const TensorView x =
      session.PutAct(RowsOf(in.x, in.shape.in, begin, count), {count, in.shape.in});
  const TensorView out = session.New(out_dtype, {count, in.shape.out});
  session.ops().Linear({.x = x, .weight = weight.get(), .out = out}, session.arena());
  return session.Floats(out);
}

class LinearTest : public testing::TestWithParam<std::tuple<std::string, LinearShape, DType>> {};

TEST_P(LinearTest, AgreesWithTheReference) {
  const auto& [name, shape, dtype] = GetParam();
  const auto device = MakeDevice(name);
  if (device == nullptr) GTEST_SKIP() << "no " << name;
  Rng rng(7);
  LinearInputs in(shape, dtype, rng);
  const DType activation = device->numerics().activation;
  RoundInputs(activation, {&in.x});
  const auto expected = Compute(*MakeDevice("reference"), in, 0, shape.rows);
  const double tolerance = Tolerance(*device, kLinearTolerance, kLinearBF16Tolerance);
  ExpectClose(Compute(*device, in, 0, shape.rows), expected, tolerance);
  if (activation != DType::kF32) {
    ExpectClose(Compute(*device, in, 0, shape.rows, activation), expected,
                kBF16Rounding + tolerance, "rounded out");
  }
}

TEST(LinearMatvecTest, FewRowsHaveTheBitsOfOneAlone) {
  const auto device = MakeDevice(DevicesAndShim().back());
  if (device == nullptr) GTEST_SKIP() << "no " << DevicesAndShim().back();
  Rng rng(8);
  LinearInputs in({8, 30, 1544}, DType::kBF16, rng);
  for (const int64_t rows : {2, 3, 8}) {
    const auto together = Compute(*device, in, 0, rows);
    for (int64_t row = 0; row < rows; ++row) {
      ExpectSameBits(Compute(*device, in, row, 1), RowsOf(together, 30, row, 1), "row");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes,
                         LinearTest,
                         testing::Combine(testing::ValuesIn(DevicesAndShim()),
                                          testing::ValuesIn(kShapes),
                                          testing::Values(DType::kBF16, DType::kF32)));

using LinearInvarianceTest = CpuIsaTest;

TEST_P(LinearInvarianceTest, ARowsBitsDependOnNeitherRowsNorThreads) {
  Rng rng(11);
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    const LinearShape shape{.rows = 110, .out = 147, .in = 530};
    const LinearInputs in(shape, dtype, rng);
    const auto all = Compute(*MakeCpu(1), in, 0, shape.rows);
    for (int threads = 1; threads <= 3; ++threads) {
      const auto cpu = MakeCpu(threads);
      ExpectSameBits(Compute(*cpu, in, 0, shape.rows), all, std::to_string(threads) + " threads");
      for (int64_t n = 1; n <= 33; ++n) {
        const int64_t begin = shape.rows - n - 2;
        ExpectSameBits(Compute(*cpu, in, begin, n), RowsOf(all, shape.out, begin, n),
                       std::to_string(n) + " rows, " + std::to_string(threads) + " threads");
      }
    }
  }
}

TEST_P(LinearInvarianceTest, AnOutputsBitsDoNotDependOnOtherOutputs) {
  // A shard of the output axis gives the bits of the whole: outputs are independent chains.
  Rng rng(13);
  const LinearInputs whole({.rows = 5, .out = 90, .in = 300}, DType::kBF16, rng);
  LinearInputs part = whole;
  part.shape.out = 37;
  part.weight = RowsOf(whole.weight, 300, 41, 37);
  const auto cpu = MakeCpu(2);
  const auto all = Compute(*cpu, whole, 0, 5);
  const auto some = Compute(*cpu, part, 0, 5);
  for (int64_t r = 0; r < 5; ++r) {
    ExpectSameBits(RowsOf(some, 37, r, 1), RowsOf(all, 1, r * 90 + 41, 37),
                   "row " + std::to_string(r));
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, LinearInvarianceTest, testing::ValuesIn(CpuIsas()), IsaOfTest);

}  // namespace
}  // namespace deltaserve
