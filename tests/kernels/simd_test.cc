#include "kernels/cpu/simd.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "kernels/cpu/isa.h"
#include "kernels/tensor/dtype.h"

namespace deltaserve::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Two units in the last place of f32: the polynomial's error and one rounding.
constexpr double kExpTolerance = 2e-7;

class SimdTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto isas = UsableIsas(DetectCpuFeatures());
    const CpuIsa needed = kLanes == 16 ? CpuIsa::kX86V4 : CpuIsa::kX86V3;
    if (!isas.ok() || isas->back() < needed) GTEST_SKIP() << "no " << CpuIsaName(needed);
  }
};

TEST_F(SimdTest, ExpIsAccurateOverAllNormalResults) {
  double worst = 0;
  for (int i = 0; i < 475000; ++i) {
    const auto narrow = static_cast<float>(-87.3 + 0.00037 * i);  // to 88.45
    const double expected = std::exp(static_cast<double>(narrow));
    worst = std::max(worst, std::abs(static_cast<double>(Exp(narrow)) - expected) / expected);
  }
  EXPECT_LT(worst, kExpTolerance);
}

TEST_F(SimdTest, ExpIsRightAtItsEnds) {
  EXPECT_EQ(Exp(0.0f), 1.0f);
  EXPECT_EQ(Exp(-0.0f), 1.0f);
  EXPECT_EQ(Exp(-kInfinity), 0.0f);
  EXPECT_EQ(Exp(-1e30f), 0.0f);
  EXPECT_EQ(Exp(-104.0f), 0.0f);
  EXPECT_EQ(Exp(kInfinity), kInfinity);
  EXPECT_EQ(Exp(88.73f), kInfinity);
  EXPECT_EQ(Exp(1e30f), kInfinity);
  EXPECT_TRUE(std::isfinite(Exp(88.72f)));
  EXPECT_TRUE(std::isnan(Exp(std::numeric_limits<float>::quiet_NaN())));
  // Denormal results are within one of their own units.
  EXPECT_NEAR(static_cast<double>(Exp(-100.0f)), std::exp(-100.0), 1.5e-45);
}

TEST_F(SimdTest, LoadTransposedTakesColumns) {
  constexpr int64_t kStride = kLanes + 3;
  float matrix[kLanes * kStride];
  for (int i = 0; i < kLanes * kStride; ++i) matrix[i] = static_cast<float>(i);
  F32 columns[kLanes];
  LoadTransposed(matrix, kStride, columns);
  for (int64_t j = 0; j < kLanes; ++j) {
    float lanes[kLanes];
    Store(lanes, columns[j]);
    for (int64_t i = 0; i < kLanes; ++i) EXPECT_EQ(lanes[i], matrix[i * kStride + j]) << i << j;
  }
}

TEST_F(SimdTest, SigmoidAndSiluAreAccurateAndSaturate) {
  for (int i = 0; i < 13000; ++i) {
    const auto narrow = static_cast<float>(-80 + 0.0123 * i);  // to 79.9
    const double wide = static_cast<double>(narrow);
    const double sigmoid = 1 / (1 + std::exp(-wide));
    EXPECT_NEAR(static_cast<double>(Sigmoid(narrow)), sigmoid, 5e-7 * sigmoid) << wide;
    const float silu = First(Silu(Set1(narrow)));
    EXPECT_NEAR(static_cast<double>(silu), wide * sigmoid, 5e-7 * std::abs(wide * sigmoid)) << wide;
  }
  EXPECT_EQ(Sigmoid(200.0f), 1.0f);
  EXPECT_EQ(Sigmoid(-200.0f), 0.0f);
}

TEST_F(SimdTest, TailsReadAndWriteOnlyTheirLanes) {
  for (int64_t n = 0; n <= kLanes; ++n) {
    float in[kLanes];
    float out[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) {
      in[i] = static_cast<float>(i + 1);
      out[i] = -1.0f;
    }
    const F32 x = LoadFirst(in, n);
    float lanes[kLanes];
    Store(lanes, x);
    StoreFirst(out, x, n);
    for (int64_t i = 0; i < kLanes; ++i) {
      EXPECT_EQ(lanes[i], i < n ? in[i] : 0.0f) << n;
      EXPECT_EQ(out[i], i < n ? in[i] : -1.0f) << n;
    }
  }
}

TEST_F(SimdTest, KeepFirstTakesTheOthersAbove) {
  for (int64_t n = 0; n <= kLanes; ++n) {
    float lanes[kLanes];
    Store(lanes, KeepFirst(Set1(2.0f), n, Set1(-3.0f)));
    for (int64_t i = 0; i < kLanes; ++i) EXPECT_EQ(lanes[i], i < n ? 2.0f : -3.0f) << n;
  }
}

TEST_F(SimdTest, PairsOfBfloat16AreWidenedEvenAndOdd) {
  BFloat16 pairs[2 * kLanes];
  for (int i = 0; i < 2 * kLanes; ++i) pairs[i] = ToBFloat16(static_cast<float>(i) - 5.5f);
  F32 low, high;
  WidenPairs(pairs, low, high);
  float even[kLanes];
  float odd[kLanes];
  Store(even, low);
  Store(odd, high);
  for (int i = 0; i < kLanes; ++i) {
    EXPECT_EQ(even[i], static_cast<float>(2 * i) - 5.5f);
    EXPECT_EQ(odd[i], static_cast<float>(2 * i + 1) - 5.5f);
  }
}

TEST_F(SimdTest, ReductionsTakeEveryLane) {
  for (int lane = 0; lane < kLanes; ++lane) {
    float x[kLanes] = {};
    x[lane] = 3.0f;
    EXPECT_EQ(ReduceSum(Load(x)), 3.0f) << lane;
    EXPECT_EQ(ReduceMax(Load(x)), 3.0f) << lane;
  }
}

TEST_F(SimdTest, SumOfSquaresTakesEveryElementAtEveryLength) {
  for (int64_t n = 0; n < 70; ++n) {
    float x[70] = {};
    double expected = 0;
    for (int64_t i = 0; i < n; ++i) {
      x[i] = static_cast<float>(i + 1);
      expected += static_cast<double>((i + 1) * (i + 1));
    }
    EXPECT_EQ(static_cast<double>(SumOfSquares(x, n)), expected) << n;
  }
}

}  // namespace
}  // namespace deltaserve::cpu
