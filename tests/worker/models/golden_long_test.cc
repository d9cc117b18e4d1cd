// The goldens at every combination of settings (tests/run --long).

#include "gtest/gtest.h"
#include "tests/worker/models/golden_check.h"

namespace deltaserve::test {
namespace {

std::vector<GoldenCase> Cases() {
  using enum LinearAttentionMode;
  using enum MoeMode;
  std::vector<GoldenCase> cases;
  for (const std::string& model : GoldenModels()) {
    for (const int ranks : {1, 2, 4}) {
      for (const MoeMode moe : {kTensor, kExpert}) {
        for (const LinearAttentionMode linear : {kSharded, kReplicated}) {
          for (const int64_t budget : {int64_t{64}, WholeBudget(model)}) {
            cases.push_back({model, {ranks, moe, linear, budget}});
          }
        }
      }
    }
  }
  return cases;
}

class GoldenLongTest : public ::testing::TestWithParam<GoldenCase> {};

TEST_P(GoldenLongTest, LogitsAndGreedyTokensAreThoseOfTransformers) {
  CheckGolden(GetParam().model, GetParam().cut);
}

INSTANTIATE_TEST_SUITE_P(All, GoldenLongTest, ::testing::ValuesIn(Cases()), [](const auto& golden) {
  return GoldenName(golden.param);
});

}  // namespace
}  // namespace deltaserve::test
