#include "kernels/random.h"

#include <cmath>
#include <set>
#include <vector>

#include "gtest/gtest.h"

namespace deltaserve {
namespace {

TEST(RandomTest, PhiloxGivesThePublishedVectors) {
  // Known answers of the authors' Random123 distribution.
  EXPECT_EQ(Philox({0, 0, 0, 0}, 0),
            (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox({~0u, ~0u, ~0u, ~0u}, ~uint64_t{0}),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822),
            (std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomTest, LogAgreesWithTheLibrary) {
  double worst = 0;
  for (int i = -60000; i < 60000; ++i) {
    const double x = std::pow(1.00037, i);  // 2e-10 to 4e9
    if (i == 0) continue;
    const double expected = std::log(x);
    worst = std::max(worst, std::abs(PortableLog(x) - expected) / std::abs(expected));
  }
  // Next to 1, where the logarithm vanishes.
  for (int i = 0; i < 3400; ++i) {
    const double d = 1e-15 * std::pow(1.01, i);  // to 0.49
    for (const double x : {1 - d, 1 + d}) {
      const double expected = std::log(x);
      worst = std::max(worst, std::abs(PortableLog(x) - expected) / std::abs(expected));
    }
  }
  EXPECT_LT(worst, 1e-12);
  EXPECT_EQ(PortableLog(1.0), 0.0);
}

TEST(RandomTest, NoiseIsFiniteAtBothEnds) {
  EXPECT_NEAR(GumbelOfWord(0), -std::log(-std::log(0.5 * 0x1p-32)), 1e-6);
  EXPECT_NEAR(GumbelOfWord(~0u), -std::log(-std::log1p(-0.5 * 0x1p-32)), 1e-5);
}

TEST(RandomTest, NoiseHasTheMomentsOfAGumbelVariable) {
  constexpr int kDraws = 200000;
  double sum = 0;
  double squares = 0;
  for (uint32_t id = 0; id < kDraws; ++id) {
    const double g = static_cast<double>(Gumbel(1, 2, 3, id));
    sum += g;
    squares += g * g;
  }
  const double mean = sum / kDraws;
  const double variance = squares / kDraws - mean * mean;
  // Five standard errors: 1.28 / sqrt(n) of the mean, about 3 / sqrt(n) of the variance.
  EXPECT_NEAR(mean, 0.5772156649, 5 * 1.2825 / std::sqrt(kDraws));
  EXPECT_NEAR(variance, 1.6449340668, 5 * 3.8 / std::sqrt(kDraws));
}

TEST(RandomTest, EveryPartOfTheKeyMatters) {
  std::set<float> seen;
  int draws = 0;
  for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 32, ~uint64_t{0}}) {
    for (const uint32_t sample : {0u, 1u}) {
      for (const uint32_t token : {0u, 1u, 70000u}) {
        for (uint32_t id = 0; id < 9; ++id) {
          seen.insert(Gumbel(seed, sample, token, id));
          ++draws;
        }
      }
    }
  }
  EXPECT_EQ(static_cast<int>(seen.size()), draws);
}

}  // namespace
}  // namespace deltaserve
