#include "worker/checkpoint/random_values.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"

namespace deltaserve {
namespace {

std::vector<float> Values(const StoredTensor& tensor, uint64_t seed = 1) {
  std::vector<float> values(static_cast<size_t>(NumElements(tensor.shape)));
  FillRandom(seed, tensor, 0, NumElements(tensor.shape), DType::kF32, values.data());
  return values;
}

struct Moments {
  double mean = 0, deviation = 0;
};

Moments MomentsOf(const std::vector<float>& values) {
  const auto n = static_cast<double>(values.size());
  Moments moments;
  for (const float value : values) moments.mean += value / n;
  for (const float value : values) {
    moments.deviation += (value - moments.mean) * (value - moments.mean) / n;
  }
  moments.deviation = std::sqrt(moments.deviation);
  return moments;
}

TEST(RandomValuesTest, AreTheSameNumbersForEver) {
  const StoredTensor normal = {.name = "layers.0.mlp.down_proj.weight", .shape = {2, 2}};
  const std::vector<float> expected = {0x1.625c000000000p-2F, 0x1.953a000000000p-1F,
                                       -0x1.6bc2000000000p+0F, -0x1.07b4000000000p-2F};
  EXPECT_EQ(Values(normal), expected);
  StoredTensor decay = {.name = "A_log", .shape = {2}};
  decay.values.kind = RandomValues::Kind::kDecay;
  const std::vector<float> expected_decay = {0x1.cd293e0000000p+0F, 0x1.570f3e0000000p+1F};
  EXPECT_EQ(Values(decay), expected_decay);
  StoredTensor step = {.name = "dt_bias", .shape = {2}};
  step.values.kind = RandomValues::Kind::kTimeStep;
  const std::vector<float> expected_step = {-0x1.2ded340000000p+1F, -0x1.26e1600000000p+1F};
  EXPECT_EQ(Values(step), expected_step);
}

TEST(RandomValuesTest, DoNotDependOnHowTheyAreCut) {
  StoredTensor tensor = {.name = "x", .shape = {40, 25}};
  tensor.values.changes = {{3, 5, 0.5F, 1.0F}, {39, 40, 0.0F, 7.0F}};
  const std::vector<float> whole = Values(tensor);
  std::vector<float> pieces(whole.size());
  for (int64_t first = 0, size = 1; first < 1000; first += size, size = (size * 7 + 3) % 90 + 1) {
    size = std::min(size, 1000 - first);
    FillRandom(1, tensor, first, size, DType::kF32, pieces.data() + first);
  }
  EXPECT_EQ(whole, pieces);
}

TEST(RandomValuesTest, HaveTheMomentsAskedFor) {
  const StoredTensor tensor = {
      .name = "w", .shape = {1000, 200}, .values = {.mean = 1.0F, .deviation = 0.3F}};
  const Moments moments = MomentsOf(Values(tensor));
  EXPECT_NEAR(moments.mean, 1.0, 0.003);
  EXPECT_NEAR(moments.deviation, 0.3, 0.002);
}

TEST(RandomValuesTest, DifferBetweenSeedsAndNamesWithoutCorrelation) {
  const StoredTensor a = {.name = "layers.0.w", .shape = {100000}};
  const StoredTensor b = {.name = "layers.1.w", .shape = {100000}};
  const auto correlation = [](const std::vector<float>& x, const std::vector<float>& y) {
    double sum = 0;
    for (size_t i = 0; i < x.size(); ++i) sum += static_cast<double>(x[i]) * y[i];
    return sum / static_cast<double>(x.size());
  };
  EXPECT_NEAR(correlation(Values(a, 1), Values(b, 1)), 0, 0.015);
  EXPECT_NEAR(correlation(Values(a, 1), Values(a, 2)), 0, 0.015);
  std::vector<float> shifted = Values(a, 1);
  std::rotate(shifted.begin(), shifted.begin() + 1, shifted.end());
  EXPECT_NEAR(correlation(Values(a, 1), shifted), 0, 0.015);
}

TEST(RandomValuesTest, DecayIsTheLogarithmOfAUniformNumber) {
  StoredTensor tensor = {.name = "A_log", .shape = {100000}};
  tensor.values.kind = RandomValues::Kind::kDecay;
  std::vector<float> values = Values(tensor);
  double mean = 0;
  for (const float value : values) {
    ASSERT_GE(value, 0.0F);
    ASSERT_LE(value, std::log(16.0F) + 1e-6F);
    mean += std::exp(static_cast<double>(value)) / 100000;
  }
  EXPECT_NEAR(mean, 8.5, 0.05);
}

TEST(RandomValuesTest, TimeStepIsTheInverseSoftplusOfAUniformNumber) {
  StoredTensor tensor = {.name = "dt_bias", .shape = {100000}};
  tensor.values.kind = RandomValues::Kind::kTimeStep;
  double mean = 0;
  for (const float value : Values(tensor)) {
    const double softplus = std::log1p(std::exp(static_cast<double>(value)));
    ASSERT_GE(softplus, 0.001 - 1e-6);
    ASSERT_LE(softplus, 0.1 + 1e-6);
    mean += softplus / 100000;
  }
  EXPECT_NEAR(mean, 0.0505, 0.0003);
}

TEST(RandomValuesTest, RoundToBf16LastOfAll) {
  const StoredTensor tensor = {.name = "w", .shape = {300}, .values = {.deviation = 0.01F}};
  std::vector<BFloat16> narrow(300);
  FillRandom(1, tensor, 0, 300, DType::kBF16, narrow.data());
  const std::vector<float> wide = Values(tensor);
  for (size_t i = 0; i < wide.size(); ++i) EXPECT_EQ(narrow[i].bits, ToBFloat16(wide[i]).bits);
}

TEST(RandomValuesTest, ChangeTheRowsNamed) {
  StoredTensor tensor = {.name = "w", .shape = {4, 8}};
  const std::vector<float> plain = Values(tensor);
  tensor.values.changes = {{1, 2, 0.0F, 5.0F}, {3, 4, 2.0F, 0.0F}};
  const std::vector<float> changed = Values(tensor);
  for (size_t i = 0; i < plain.size(); ++i) {
    const size_t row = i / 8;
    const float expected = row == 1 ? 5.0F : row == 3 ? 2.0F * plain[i] : plain[i];
    EXPECT_EQ(changed[i], expected) << i;
  }
}

}  // namespace
}  // namespace deltaserve
