// DeltaServe against Hugging Face transformers in f32, on the committed goldens: logits and greedy
// tokens.
//
// Every pair of settings (model, ranks, moe, linear attention, token budget) occurs; every
// combination with DELTASERVE_LONG=1 (tests/run --long).

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>

#include "gtest/gtest.h"
#include "tests/worker/engine/collecting_sink.h"
#include "tests/worker/models/model_world.h"

namespace deltaserve::test {
namespace {

// The most that a logit may differ: sums are taken in another order than transformers'.
constexpr float kTolerance = 1e-3F;
// A budget that takes each prompt whole.
constexpr int64_t kWhole = 512;
constexpr int64_t kWholeOfDeep = 1536;  // dense-deep has a prompt of 1,500 tokens

struct GoldenCase {
  std::string model;
  Cut cut;
};

std::string CaseName(const ::testing::TestParamInfo<GoldenCase>& info) {
  std::string name = info.param.model + "_" + CutName(info.param.cut);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

std::vector<Cut> AllCuts() {
  std::vector<Cut> cuts;
  for (const int ranks : {1, 2, 4}) {
    for (const MoeMode moe : {MoeMode::kTensor, MoeMode::kExpert}) {
      for (const auto linear : {LinearAttentionMode::kSharded, LinearAttentionMode::kReplicated}) {
        for (const int64_t budget : {int64_t{64}, kWhole}) {
          cuts.push_back({ranks, moe, linear, budget});
        }
      }
    }
  }
  return cuts;
}

// Six cuts in which every pair of their settings occurs.
std::vector<Cut> PairwiseCuts() {
  using enum LinearAttentionMode;
  using enum MoeMode;
  return {{1, kTensor, kSharded, 64},     {1, kExpert, kReplicated, kWhole},
          {2, kTensor, kReplicated, 64},  {2, kExpert, kSharded, kWhole},
          {4, kTensor, kSharded, kWhole}, {4, kExpert, kReplicated, 64}};
}

std::vector<GoldenCase> Cases() {
  const bool all = std::getenv("DELTASERVE_LONG") != nullptr;
  std::vector<GoldenCase> cases;
  for (const std::string& model : GoldenModels()) {
    const std::vector<Cut> cuts = all ? AllCuts() : PairwiseCuts();
    const bool deep = model == "dense-deep";  // slow: three of the six cuts still have each setting
    for (size_t i = 0; i < cuts.size(); ++i) {
      if (deep && !all && i != 0 && i != 3 && i != 5) continue;
      cases.push_back({model, cuts[i]});
      if (deep && cuts[i].token_budget == kWhole) cases.back().cut.token_budget = kWholeOfDeep;
    }
  }
  return cases;
}

double LogSumExp(const std::vector<float>& row) {
  const double most = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (const float value : row) sum += std::exp(value - most);
  return most + std::log(sum);
}

void CompareRow(const GoldenPrompt& golden, int64_t position, const std::vector<float>& row) {
  const auto t = static_cast<size_t>(position);
  EXPECT_NEAR(LogSumExp(row), golden.lse[t], kTolerance) << "position " << position;
  for (size_t i = 0; i < golden.top_ids[t].size(); ++i) {
    const auto id = static_cast<size_t>(golden.top_ids[t][i]);
    EXPECT_NEAR(row[id], golden.top_logits[t][i], kTolerance)
        << "position " << position << ", id " << id;
  }
  const auto found = std::find(golden.row_positions.begin(), golden.row_positions.end(), position);
  if (found == golden.row_positions.end()) return;
  const std::vector<float>& expected =
      golden.rows[static_cast<size_t>(found - golden.row_positions.begin())];
  ASSERT_EQ(row.size(), expected.size());
  float worst = 0;
  for (size_t i = 0; i < row.size(); ++i) worst = std::max(worst, std::fabs(row[i] - expected[i]));
  EXPECT_LE(worst, kTolerance) << "position " << position;
}

class GoldenTest : public ::testing::TestWithParam<GoldenCase> {};

TEST_P(GoldenTest, LogitsAndGreedyTokensAreThoseOfTransformers) {
  const GoldenCase& parameters = GetParam();
  const std::vector<GoldenPrompt> goldens = ReadGolden(parameters.model);
  const auto world = StartModel(GoldenFolder(parameters.model), parameters.cut);
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (const GoldenPrompt& golden : goldens) {
    Request request;
    request.id = std::to_string(sinks.size());
    request.prompt = golden.ids;
    request.sampling.temperature = 0;
    request.max_tokens = static_cast<uint32_t>(golden.greedy.size());
    request.ignore_eos = true;
    request.logprobs = 0;
    // A step scores few rows of a prompt, so all positions are asked for only where steps are
    // short.
    request.logits_at = golden.row_positions;
    if (parameters.cut.token_budget == 64) {
      request.logits_at.resize(golden.ids.size());
      std::iota(request.logits_at.begin(), request.logits_at.end(), int64_t{0});
    }
    sinks.push_back(std::make_shared<CollectingSink>());
    const auto ticket = world->engine().Submit(request, sinks.back());
    ASSERT_TRUE(ticket.ok()) << ticket.status();
  }
  for (size_t i = 0; i < goldens.size(); ++i) {
    SCOPED_TRACE("prompt of " + std::to_string(goldens[i].ids.size()) + " tokens");
    const CollectingSink::Received received = sinks[i]->Wait();
    ASSERT_TRUE(received.ended.has_value());
    EXPECT_EQ(received.tokens, goldens[i].greedy);
    ASSERT_EQ(received.logprobs.size(), goldens[i].greedy_logprobs.size());
    for (size_t j = 0; j < received.logprobs.size(); ++j) {
      EXPECT_NEAR(received.logprobs[j].logprob, goldens[i].greedy_logprobs[j], 2 * kTolerance);
    }
    EXPECT_GE(received.logits.size(), goldens[i].row_positions.size());
    for (const auto& [position, row] : received.logits) CompareRow(goldens[i], position, row);
  }
}

INSTANTIATE_TEST_SUITE_P(Cuts, GoldenTest, ::testing::ValuesIn(Cases()), CaseName);

}  // namespace
}  // namespace deltaserve::test
