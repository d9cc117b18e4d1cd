// Linear and Experts with weights in 8 bits: the numbers are those of the scheme, to the bit, and
// the scheme's error is within what can be computed from it.

#include <limits>

#include "tests/kernels/op_test.h"

namespace deltaserve {
namespace {

struct Shape {
  int64_t rows;
  int64_t out;
  int64_t in;
};

// Rows around a register tile and a block of 512; depths that are no multiple of 4 or of a vector,
// and more than one block of 512.
const Shape kShapes[] = {{0, 5, 3},    {1, 1, 1},     {1, 16, 256}, {1, 67, 1030}, {2, 33, 7},
                         {3, 64, 513}, {5, 80, 64},   {7, 1, 1025}, {12, 96, 129}, {13, 130, 18},
                         {25, 65, 31}, {97, 48, 520}, {515, 70, 6}};

// The scheme by its definition, one vector at a time.
struct Quantized {
  std::vector<int64_t> values;
  float scale;
};

Quantized Quantize(const float* x, int64_t n) {
  float most = 0;
  for (int64_t i = 0; i < n; ++i) most = std::max(most, std::fabs(x[i]));
  Quantized q{std::vector<int64_t>(static_cast<size_t>(n)), most / 127.0F};
  for (int64_t i = 0; most > 0 && i < n; ++i) {
    q.values[static_cast<size_t>(i)] = std::lrint(static_cast<double>(x[i] * (127.0F / most)));
  }
  return q;
}

struct Inputs {
  Shape shape;
  DType dtype;
  std::vector<float> x;
  std::vector<float> weight;  // representable in dtype

  // Rows and outputs of very different sizes, a row and an output of zeros.
  Inputs(const Shape& s, DType type, Rng& rng) : shape(s), dtype(type) {
    x = Normal(rng, s.rows * s.in);
    weight = Normal(rng, s.out * s.in, 1.0F / std::sqrt(static_cast<float>(s.in)));
    Scale(x, s.in);
    Scale(weight, s.in);
    for (float& w : weight) w = ToFloat(ToBFloat16(w));
  }

  Quantized Row(int64_t r) const { return Quantize(x.data() + r * shape.in, shape.in); }
  Quantized Output(int64_t c) const { return Quantize(weight.data() + c * shape.in, shape.in); }

 private:
  static void Scale(std::vector<float>& values, int64_t width) {
    for (size_t i = 0; i < values.size(); ++i) {
      const auto row = static_cast<int>(static_cast<int64_t>(i) / width);
      values[i] = row % 11 == 3 ? 0.0F : std::ldexp(values[i], row % 7 - 3);
    }
  }
};

std::vector<float> Compute(Device& device,
                           const Inputs& in,
                           int64_t begin,
                           int64_t count,
                           Precision precision = Precision::kMayQuantize) {
  Session s(device);
  Buffer buffer =
      in.dtype == DType::kF32 ? HostBuffer(in.weight) : HostBuffer(ToBFloat16s(in.weight));
  const auto weight =
      s.ops().PackLinear(std::move(buffer), in.dtype, in.shape.out, in.shape.in, precision).value();
  EXPECT_EQ(weight->out_features(), in.shape.out);
  EXPECT_EQ(weight->in_features(), in.shape.in);
  const TensorView x = s.Put(RowsOf(in.x, in.shape.in, begin, count), {count, in.shape.in});
  const TensorView out = s.NewF32({count, in.shape.out});
  s.ops().Linear({.x = x, .weight = weight.get(), .out = out}, s.arena());
  return s.Floats(out);
}

std::vector<float> Compute(Device& device, const Inputs& in) {
  return Compute(device, in, 0, in.shape.rows);
}

class Int8Test : public testing::TestWithParam<std::string> {
 protected:
  static std::unique_ptr<Device> MakeInt8(int num_threads) {
    return MakeCpu(num_threads, GetParam(), Quantization::kInt8);
  }
};

TEST_P(Int8Test, LinearGivesTheBitsOfTheScheme) {
  Rng rng(7);
  const auto device = MakeInt8(3);
  for (const Shape& shape : kShapes) {
    for (const DType dtype : {DType::kBF16, DType::kF32}) {
      const Inputs in(shape, dtype, rng);
      std::vector<Quantized> outputs;
      for (int64_t c = 0; c < shape.out; ++c) outputs.push_back(in.Output(c));
      std::vector<float> expected;
      for (int64_t r = 0; r < shape.rows; ++r) {
        const Quantized row = in.Row(r);
        for (const Quantized& output : outputs) {
          int64_t sum = 0;
          for (size_t k = 0; k < row.values.size(); ++k) sum += row.values[k] * output.values[k];
          expected.push_back(static_cast<float>(sum) * (row.scale * output.scale));
        }
      }
      ExpectSameBits(Compute(*device, in), expected,
                     std::to_string(shape.rows) + " rows of " + std::to_string(shape.in));
    }
  }
}

// What rounding both factors to half a unit can change.
TEST_P(Int8Test, TheErrorIsWithinHalfAUnitOfBothFactors) {
  Rng rng(9);
  const Inputs in({.rows = 20, .out = 40, .in = 300}, DType::kF32, rng);
  const auto actual = Compute(*MakeInt8(2), in);
  for (int64_t r = 0; r < in.shape.rows; ++r) {
    const double dx = 0.5 * static_cast<double>(in.Row(r).scale);
    for (int64_t c = 0; c < in.shape.out; ++c) {
      const double dw = 0.5 * static_cast<double>(in.Output(c).scale);
      double exact = 0;
      double bound = 0;
      for (int64_t k = 0; k < in.shape.in; ++k) {
        const auto x = static_cast<double>(in.x[static_cast<size_t>(r * in.shape.in + k)]);
        const auto w = static_cast<double>(in.weight[static_cast<size_t>(c * in.shape.in + k)]);
        exact += x * w;
        bound += std::abs(x) * dw + std::abs(w) * dx + dx * dw;
      }
      const auto got = static_cast<double>(actual[static_cast<size_t>(r * in.shape.out + c)]);
      EXPECT_LE(std::abs(got - exact), bound * (1 + 1e-5)) << r << ", " << c;
    }
  }
}

TEST_P(Int8Test, ARowsBitsDependOnNeitherRowsNorThreads) {
  Rng rng(11);
  const Inputs in({.rows = 110, .out = 147, .in = 530}, DType::kBF16, rng);
  const auto all = Compute(*MakeInt8(1), in);
  for (int threads = 1; threads <= 3; ++threads) {
    const auto device = MakeInt8(threads);
    for (const int64_t n : {1, 2, 3, 4, 5, 11, 12, 13, 24, 25, 33}) {
      ExpectSameBits(Compute(*device, in, 70, n), RowsOf(all, in.shape.out, 70, n),
                     std::to_string(n) + " rows, " + std::to_string(threads) + " threads");
    }
  }
}

// The longest sum of the largest terms: nothing saturates or wraps.
TEST_P(Int8Test, TheLargestSumsAreExact) {
  constexpr int64_t kDepth = int64_t{1} << 16;
  Rng rng(13);
  Inputs in({.rows = 13, .out = 2, .in = 4}, DType::kF32, rng);
  in.shape.in = kDepth;
  in.x.assign(13 * kDepth, 1.0F);
  in.weight.assign(kDepth, 1.0F);
  in.weight.resize(2 * kDepth, -1.0F);
  const float unit = 1.0F / 127.0F;
  const float sum = static_cast<float>(127 * 127 * kDepth) * (unit * unit);
  for (const int64_t n : {1, 13}) {
    std::vector<float> expected;
    for (int64_t r = 0; r < n; ++r) expected.insert(expected.end(), {sum, -sum});
    ExpectSameBits(Compute(*MakeInt8(1), in, 0, n), expected, std::to_string(n) + " rows");
  }
}

TEST_P(Int8Test, WhatIsNoNumberIsNoNumberInItsRowAlone) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  Rng rng(15);
  Inputs in({.rows = 3, .out = 20, .in = 37}, DType::kF32, rng);
  const auto good = Compute(*MakeInt8(1), in);
  for (const float bad : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
    for (const size_t at : {size_t{0}, size_t{16}, size_t{36}}) {
      Inputs changed = in;
      changed.x[37 + at] = bad;
      const auto out = Compute(*MakeInt8(1), changed);
      for (size_t c = 0; c < 20; ++c) EXPECT_TRUE(std::isnan(out[20 + c])) << bad << " at " << at;
      ExpectSameBits(RowsOf(out, 20, 0, 1), RowsOf(good, 20, 0, 1), "row 0");
      ExpectSameBits(RowsOf(out, 20, 2, 1), RowsOf(good, 20, 2, 1), "row 2");
    }
  }
}

// Divided by 127 they would be no numbers any more, or their reciprocal none.
TEST_P(Int8Test, TinyAndHugeValuesGiveNumbers) {
  Rng rng(17);
  const Inputs in({.rows = 1, .out = 1, .in = 50}, DType::kF32, rng);
  for (const float size : {1e-45F, 1e-40F, 1e-35F, 1e-28F, 1e30F, 3e38F}) {
    Inputs x = in;
    x.x.assign(50, size);
    x.weight.assign(50, 1e-3F);
    const float out = Compute(*MakeInt8(1), x).front();
    EXPECT_NEAR(static_cast<double>(out), 50 * 1e-3 * static_cast<double>(size),
                std::max(1e-30, 1e-5 * static_cast<double>(size)));
    std::swap(x.x, x.weight);
    EXPECT_EQ(Compute(*MakeInt8(1), x).front(), out) << "as a weight: " << size;
  }
}

TEST_P(Int8Test, AnExactWeightStaysAsItIsAndOthersTakeHalf) {
  Rng rng(19);
  const Inputs in({.rows = 4, .out = 64, .in = 400}, DType::kBF16, rng);
  const auto plain = MakeCpu(2, GetParam());
  const auto int8 = MakeInt8(2);
  ExpectSameBits(Compute(*int8, in, 0, 4, Precision::kExact), Compute(*plain, in), "exact");
  ExpectSameBits(Compute(*plain, in, 0, 4, Precision::kMayQuantize),
                 Compute(*plain, in, 0, 4, Precision::kExact), "not asked for");
  const auto bytes = [&](Device& device, Precision precision) {
    return device.ops()
        .PackLinear(HostBuffer(ToBFloat16s(in.weight)), DType::kBF16, 64, 400, precision)
        .value()
        ->bytes();
  };
  EXPECT_EQ(bytes(*int8, Precision::kExact), size_t{64} * 400 * 2);
  EXPECT_EQ(bytes(*int8, Precision::kMayQuantize), size_t{64} * (400 + 4));
}

// An expert that all rows choose with weight 1 is three linear layers.
TEST_P(Int8Test, AnExpertGivesTheBitsOfItsLinearLayers) {
  constexpr int64_t kHidden = 70;
  constexpr int64_t kWidth = 45;
  Rng rng(21);
  const auto gate_up = Normal(rng, 2 * kWidth * kHidden, 0.1F);
  const auto down = Normal(rng, kHidden * kWidth, 0.1F);
  const auto device = MakeInt8(2);
  for (const int64_t rows : {1, 4, 13, 60}) {
    const auto x = Normal(rng, rows * kHidden);
    Session s(*device);
    const auto linear = [&](const std::vector<float>& w, TensorView from, int64_t in, int64_t out) {
      const auto weight =
          s.ops().PackLinear(HostBuffer(w), DType::kF32, out, in, Precision::kMayQuantize).value();
      const TensorView to = s.NewF32({rows, out});
      s.ops().Linear({.x = from, .weight = weight.get(), .out = to}, s.arena());
      return to;
    };
    const TensorView act = s.NewF32({rows, kWidth});
    s.ops().SiluMul(
        {.gate_up = linear(gate_up, s.Put(x, {rows, kHidden}), kHidden, 2 * kWidth), .out = act});
    const auto expected = s.Floats(linear(down, act, kWidth, kHidden));

    const auto weights =
        s.ops()
            .PackExperts(HostBuffer(gate_up), HostBuffer(down), DType::kF32, 1, kHidden, kWidth)
            .value();
    EXPECT_LT(weights->bytes(), size_t{2} * 4 * kWidth * kHidden) << "they are 8 bits wide";
    const auto n = static_cast<size_t>(rows);
    ExpertsArgs args;
    args.x = s.Put(x, {rows, kHidden});
    args.experts = s.Put(std::vector<int32_t>(n, 0), {rows, 1});
    args.weights = s.Put(std::vector<float>(n, 1.0F), {rows, 1});
    args.expert_weights = weights.get();
    args.out = s.NewF32({rows, kHidden});
    s.ops().Experts(args, s.arena());
    ExpectSameBits(s.Floats(args.out), expected, std::to_string(rows) + " rows");
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, Int8Test, testing::ValuesIn(CpuIsas()), IsaOfTest);

}  // namespace
}  // namespace deltaserve
