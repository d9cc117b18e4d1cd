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

// Bounds are 1.4 times what was measured (docs/quantization.md). Random weights are the hard case:
// logits of a deviation of 3 (8 where the head is tied) with small margins, experts that are nearly
// tied.
struct Case {
  const char* model;
  int ranks;
  double mean_error;  // of the log-sum-exp
  double agreement;   // share of positions with the same most likely token
};

constexpr Case kCases[] = {{"dense-flat", 1, 0.07, 0.88}, {"dense-one-kv-head", 1, 0.043, 0.92},
                           {"dense-tied", 2, 0.28, 0.95}, {"moe-fused", 2, 0.12, 0.81},
                           {"moe-tied", 1, 0.62, 0.98},   {"next", 1, 0.115, 0.81}};

class Int8GoldenTest : public ::testing::TestWithParam<Case> {};

TEST_P(Int8GoldenTest, LogitsStayNearThoseOfTransformers) {
  const auto& [model, ranks, mean_error, least_agreement] = GetParam();
  const std::vector<GoldenPrompt> goldens = ReadGolden(model);
  const auto world =
      StartModel(GoldenFolder(model), {.ranks = ranks, .quantization = Quantization::kInt8});
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
  for (size_t i = 0; i < goldens.size(); ++i) {
    const CollectingSink::Received received = sinks[i]->Wait();
    ASSERT_EQ(received.logits.size(), goldens[i].ids.size());
    for (const auto& [position, row] : received.logits) {
      const auto t = static_cast<size_t>(position);
      const auto best = std::max_element(row.begin(), row.end()) - row.begin();
      if (best == goldens[i].top_ids[t].front()) ++agreeing;
      sum += std::abs(LogSumExp(row) - static_cast<double>(goldens[i].lse[t]));
      ++positions;
    }
  }
  const double mean = sum / static_cast<double>(positions);
  const double agreement = static_cast<double>(agreeing) / static_cast<double>(positions);
  RecordProperty("mean_error", std::to_string(mean));
  RecordProperty("top_agreement", std::to_string(agreement));
  EXPECT_LE(mean, mean_error);
  EXPECT_GE(agreement, least_agreement);
  // Exact weights would agree to 1e-3: then nothing was quantised.
  EXPECT_GT(mean, 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Models, Int8GoldenTest, ::testing::ValuesIn(kCases), [](const auto& c) {
  std::string name = c.param.model;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace deltaserve::test
