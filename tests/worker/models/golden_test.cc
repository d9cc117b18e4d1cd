// The goldens, with cuts in which every pair of settings (model, ranks, moe, linear attention,
// token budget) occurs. golden_long_test.cc has every combination.

#include "gtest/gtest.h"
#include "tests/worker/models/golden_check.h"

namespace deltaserve::test {
namespace {

// Six cuts in which every pair of their settings occurs; `whole`: see WholeBudget.
std::vector<Cut> PairwiseCuts(int64_t whole) {
  using enum LinearAttentionMode;
  using enum MoeMode;
  return {{1, kTensor, kSharded, 64},    {1, kExpert, kReplicated, whole},
          {2, kTensor, kReplicated, 64}, {2, kExpert, kSharded, whole},
          {4, kTensor, kSharded, whole}, {4, kExpert, kReplicated, 64}};
}

std::vector<GoldenCase> Cases() {
  std::vector<GoldenCase> cases;
  for (const std::string& model : GoldenModels()) {
    const std::vector<Cut> cuts = PairwiseCuts(WholeBudget(model));
    for (size_t i = 0; i < cuts.size(); ++i) {
      // The slow one runs at three of the six, which still have each setting.
      if (model == "dense-deep" && i != 0 && i != 3 && i != 5) continue;
      cases.push_back({model, cuts[i]});
    }
  }
  return cases;
}

class GoldenTest : public ::testing::TestWithParam<GoldenCase> {};

TEST_P(GoldenTest, LogitsAndGreedyTokensAreThoseOfTransformers) {
  CheckGolden(GetParam().model, GetParam().cut);
}

INSTANTIATE_TEST_SUITE_P(Pairs, GoldenTest, ::testing::ValuesIn(Cases()), [](const auto& golden) {
  return GoldenName(golden.param);
});

}  // namespace
}  // namespace deltaserve::test
