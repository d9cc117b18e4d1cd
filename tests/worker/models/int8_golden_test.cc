// What 8-bit weights (--quantize=int8) do to a model: log-sum-exp and most likely token of every
// position of the goldens' prompts, beside those of transformers in f32.

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "gtest/gtest.h"
#include "tests/worker/engine/collecting_sink.h"
#include "tests/worker/models/golden_check.h"

namespace deltaserve::test {
namespace {

// Measured: see docs/quantization.md. Random weights have logits of a deviation of about 3 and
// margins that a trained model has not, so they are the hard case.
constexpr double kMeanError = 0.06;
constexpr double kLargestError = 0.5;
constexpr double kTopAgreement = 0.9;

struct Case {
  std::string model;
  int ranks;
};

class Int8GoldenTest : public ::testing::TestWithParam<Case> {};

TEST_P(Int8GoldenTest, LogitsStayNearThoseOfTransformers) {
  const auto& [model, ranks] = GetParam();
  const std::vector<GoldenPrompt> goldens = ReadGolden(model);
  const auto world = StartModel(GoldenFolder(model),
                                {.ranks = ranks, .quantization = Quantization::kInt8});
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (const GoldenPrompt& golden : goldens) {
    Request request;
    request.id = std::to_string(sinks.size());
    request.prompt = golden.ids;
    request.sampling.temperature = 0;
    request.max_tokens = 1;
    request.logits_at.resize(golden.ids.size());
    std::iota(request.logits_at.begin(), request.logits_at.end(), int64_t{0});
    sinks.push_back(std::make_shared<CollectingSink>());
    const auto ticket = world->engine().Submit(request, sinks.back());
    ASSERT_TRUE(ticket.ok()) << ticket.status();
  }
  int64_t positions = 0;
  int64_t agreeing = 0;
  double sum = 0;
  double largest = 0;
  for (size_t i = 0; i < goldens.size(); ++i) {
    const CollectingSink::Received received = sinks[i]->Wait();
    ASSERT_EQ(received.logits.size(), goldens[i].ids.size());
    for (const auto& [position, row] : received.logits) {
      const auto t = static_cast<size_t>(position);
      const auto best = std::max_element(row.begin(), row.end()) - row.begin();
      if (best == goldens[i].top_ids[t].front()) ++agreeing;
      const double error = std::abs(LogSumExp(row) - static_cast<double>(goldens[i].lse[t]));
      largest = std::max(largest, error);
      sum += error;
      ++positions;
    }
  }
  const double mean = sum / static_cast<double>(positions);
  const double agreement = static_cast<double>(agreeing) / static_cast<double>(positions);
  RecordProperty("mean_error", std::to_string(mean));
  RecordProperty("largest_error", std::to_string(largest));
  RecordProperty("top_agreement", std::to_string(agreement));
  EXPECT_LE(mean, kMeanError);
  EXPECT_LE(largest, kLargestError);
  EXPECT_GE(agreement, kTopAgreement);
  // Exact weights would agree to 1e-3: then nothing was quantised.
  EXPECT_GT(mean, 1e-3);
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const std::string& model : GoldenModels()) {
    cases.push_back({model, model == "moe-fused" || model == "dense-tied" ? 2 : 1});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Models, Int8GoldenTest, ::testing::ValuesIn(Cases()), [](const auto& c) {
  std::string name = c.param.model + "_ranks" + std::to_string(c.param.ranks);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace deltaserve::test
