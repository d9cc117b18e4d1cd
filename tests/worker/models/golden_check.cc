#include "tests/worker/models/golden_check.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/shim/shim_device.h"
#include "tests/worker/engine/arena_check.h"
#include "tests/worker/engine/collecting_sink.h"
#include "worker/checkpoint/model_config.h"

namespace deltaserve::test {
namespace {

// The most that a logit may differ: sums are taken in another order than transformers'.
constexpr float kTolerance = 1e-3F;

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

// Scores of the prompt's tokens are the log-softmax of the golden's logits. The golden's sums are
// over all rows of the vocabulary, scores are over the `num_tokens` real ids: `rows`, the logits
// that the world gave and that CompareRow has compared, tell the difference.
void CompareScores(const GoldenPrompt& golden,
                   const std::map<int64_t, std::vector<float>>& rows,
                   int64_t num_tokens,
                   const std::vector<TokenLogProb>& scores) {
  ASSERT_EQ(scores.size(), golden.ids.size() - 1);
  ASSERT_EQ(rows.size(), golden.ids.size());
  for (size_t t = 0; t < scores.size(); ++t) {
    SCOPED_TRACE("scored at position " + std::to_string(t));
    const std::vector<float>& row = rows.at(static_cast<int64_t>(t));
    const double padding = LogSumExp(row) - LogSumExp({row.begin(), row.begin() + num_tokens});
    const double lse = golden.lse[t] - padding;
    std::map<int32_t, float> logits;  // of the golden, where it has them
    for (size_t i = 0; i < golden.top_ids[t].size(); ++i) {
      logits[golden.top_ids[t][i]] = golden.top_logits[t][i];
    }
    EXPECT_EQ(scores[t].id, golden.ids[t + 1]);
    EXPECT_EQ(scores[t].top.size(), 8u);
    std::vector<std::pair<int32_t, float>> told = scores[t].top;
    told.emplace_back(scores[t].id, scores[t].logprob);
    for (const auto& [id, logprob] : told) {
      const auto found = logits.find(id);
      const float logit = found == logits.end() ? row[static_cast<size_t>(id)] : found->second;
      EXPECT_NEAR(logprob, logit - lse, kTolerance) << "id " << id;
    }
  }
}

Request GreedyRequest(const GoldenPrompt& golden, size_t index) {
  Request request;
  request.id = std::to_string(index);
  request.prompt = golden.ids;
  request.sampling.temperature = 0;
  return request;
}

std::vector<int64_t> AllPositions(const GoldenPrompt& golden) {
  std::vector<int64_t> positions(golden.ids.size());
  std::iota(positions.begin(), positions.end(), int64_t{0});
  return positions;
}

}  // namespace

double LogSumExp(const std::vector<float>& row) {
  const double most = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (const float value : row) sum += std::exp(value - most);
  return most + std::log(sum);
}

void CheckGolden(const std::string& model, const Cut& cut) {
  const std::vector<GoldenPrompt> goldens = ReadGolden(model);
  const auto world = StartModel(GoldenFolder(model), cut);
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (const GoldenPrompt& golden : goldens) {
    Request request = GreedyRequest(golden, sinks.size());
    request.max_tokens = static_cast<uint32_t>(golden.greedy.size());
    request.ignore_eos = true;
    request.logprobs = 0;
    // A step scores few rows of a prompt, so all positions are asked for, in both ways, only where
    // steps are short.
    request.logits_at = golden.row_positions;
    if (cut.token_budget == 64) {
      request.logits_at = AllPositions(golden);
      request.prompt_logprobs = 8;
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
    if (cut.token_budget == 64) {
      CompareScores(goldens[i], received.logits, world->engine().capacity().num_tokens,
                    received.prompt_scores());
    }
  }
}

GoldenNearness MeasureNearness(const std::string& model, const Cut& cut) {
  const std::vector<GoldenPrompt> goldens = ReadGolden(model);
  const auto world = StartModel(GoldenFolder(model), cut);
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (const GoldenPrompt& golden : goldens) {
    Request request = GreedyRequest(golden, sinks.size());
    request.max_tokens = 1;
    request.logits_at = AllPositions(golden);
    sinks.push_back(std::make_shared<CollectingSink>());
    const auto ticket = world->engine().Submit(request, sinks.back());
    EXPECT_TRUE(ticket.ok()) << ticket.status();
  }
  int64_t positions = 0;
  int64_t agreeing = 0;
  double sum = 0;
  for (size_t i = 0; i < goldens.size(); ++i) {
    const CollectingSink::Received received = sinks[i]->Wait();
    EXPECT_EQ(received.logits.size(), goldens[i].ids.size());
    for (const auto& [position, row] : received.logits) {
      const auto t = static_cast<size_t>(position);
      const auto best = std::max_element(row.begin(), row.end()) - row.begin();
      if (best == goldens[i].top_ids[t].front()) ++agreeing;
      sum += std::abs(LogSumExp(row) - static_cast<double>(goldens[i].lse[t]));
      ++positions;
    }
  }
  if (cut.over_shim) {  // the ops of CPUs take some for each thread
    ExpectArenaAsPlanned(
        *world, *LoadModelConfig(GoldenFolder(model)),
        {.ranks = cut.ranks, .moe = cut.moe, .linear_attention = cut.linear_attention},
        *cuda::CreateShimDevice());
  }
  return {.mean_error = sum / static_cast<double>(positions),
          .agreement = static_cast<double>(agreeing) / static_cast<double>(positions)};
}

int64_t WholeBudget(const std::string& model) { return model == "dense-deep" ? 1536 : 512; }

std::string GoldenName(const GoldenCase& golden) {
  std::string name = golden.model + "_" + CutName(golden.cut);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

}  // namespace deltaserve::test
