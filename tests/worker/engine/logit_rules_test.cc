// The rules of requests over logits: what is penalised and banned when, and the distributions that
// come of it.

#include "worker/engine/logit_rules.h"

#include <cmath>
#include <functional>
#include <limits>
#include <map>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/ops.h"
#include "worker/engine/logit_editor.h"

namespace deltaserve {
namespace {

using ::testing::ElementsAre;

constexpr int64_t kTokens = 6;

// The ids that may come next.
std::vector<int32_t> Left(const LogitHistory& history, int64_t num_tokens = kTokens) {
  std::vector<uint32_t> mask(2);
  history.FillMask(num_tokens, mask);
  std::vector<int32_t> left;
  for (int32_t id = 0; id < 64; ++id) {
    if ((mask[static_cast<size_t>(id) / 32] >> (id % 32) & 1) != 0) left.push_back(id);
  }
  return left;
}

TEST(LogitHistoryTest, CountsTheAnswerAndRemembersThePrompt) {
  LogitHistory history(
      {.presence_penalty = 1, .repetition_penalty = 2, .bias = {{3, 0.5f}, {4, 1}}},
      /*num_prompt=*/3);
  for (const int32_t id : {1, 1, 3, 2, 2, 3}) history.Add(id);
  PenaltyEntries entries;
  history.AppendEntries(7, &entries);
  std::map<int32_t, std::vector<float>> by_id;
  for (size_t i = 0; i < entries.id.size(); ++i) {
    EXPECT_EQ(entries.row[i], 7);
    EXPECT_TRUE(by_id
                    .emplace(entries.id[i], std::vector<float>{static_cast<float>(entries.seen[i]),
                                                               static_cast<float>(entries.count[i]),
                                                               entries.bias[i]})
                    .second)
        << entries.id[i];
  }
  EXPECT_THAT(by_id, ElementsAre(std::pair(1, std::vector<float>{1, 0, 0}),
                                 std::pair(2, std::vector<float>{1, 2, 0}),
                                 std::pair(3, std::vector<float>{1, 1, 0.5f}),
                                 std::pair(4, std::vector<float>{0, 0, 1})));
}

TEST(LogitHistoryTest, WithoutRepetitionThePromptHasNoEntries) {
  LogitHistory history({.frequency_penalty = 1}, /*num_prompt=*/2);
  for (const int32_t id : {1, 2, 5}) history.Add(id);
  PenaltyEntries entries;
  history.AppendEntries(0, &entries);
  EXPECT_THAT(entries.id, ElementsAre(5));
}

TEST(LogitHistoryTest, BansTheLastTokenOfASequenceThatTheAnswerBegan) {
  LogitHistory history({.banned = {{1, 2, 3}, {4}, {2, 2}}}, /*num_prompt=*/2);
  history.Add(1);
  history.Add(2);  // of the prompt: no beginning
  EXPECT_THAT(Left(history), ElementsAre(0, 1, 2, 3, 5));
  history.Add(1);
  EXPECT_THAT(Left(history), ElementsAre(0, 1, 2, 3, 5));
  history.Add(2);
  EXPECT_THAT(Left(history), ElementsAre(0, 1, 5));
  history.Add(5);
  EXPECT_THAT(Left(history), ElementsAre(0, 1, 2, 3, 5));
}

TEST(LogitHistoryTest, EndsMayComeOnceThereAreEnoughTokens) {
  LogitHistory history({.min_tokens = 2, .ends = {0, 5}}, /*num_prompt=*/1);
  history.Add(9);
  EXPECT_TRUE(history.masks());
  EXPECT_THAT(Left(history), ElementsAre(1, 2, 3, 4));
  history.Add(3);
  EXPECT_THAT(Left(history), ElementsAre(1, 2, 3, 4));
  history.Add(3);
  EXPECT_FALSE(history.masks());
  EXPECT_THAT(Left(history), ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST(LogitHistoryTest, BansThatLeaveNothingDoNotHold) {
  LogitHistory history(
      {.allows_some = true, .allowed = {2, 33}, .banned = {{1, 2}}, .min_tokens = 9, .ends = {33}},
      /*num_prompt=*/0);
  EXPECT_THAT(Left(history, 40), ElementsAre(2));
  history.Add(1);
  EXPECT_THAT(Left(history, 40), ElementsAre(2, 33));
}

// Ids 0..5 with these probabilities at temperature 1.
const std::vector<double> kProbabilities = {0.05, 0.4, 0.1, 0.25, 0.15, 0.05};
// Behind the prompt 0 3 the answer began with 1 1 4.
const std::vector<int32_t> kPrompt = {0, 3};
const std::vector<int32_t> kAnswer = {1, 1, 4};

struct Parameter {
  const char* name;
  std::function<void(LogitRules&)> set;
};

std::vector<Parameter> Parameters() {
  return {{"presence", [](LogitRules& r) { r.presence_penalty = 1.5f; }},
          {"frequency", [](LogitRules& r) { r.frequency_penalty = -0.75f; }},
          {"repetition", [](LogitRules& r) { r.repetition_penalty = 1.6f; }},
          {"bias",
           [](LogitRules& r) {
             r.bias = {{1, -1.0f}, {2, 1.25f}};
           }},
          {"allowed",
           [](LogitRules& r) {
             r.allows_some = true;
             r.allowed = {1, 2, 4, 5};
           }},
          {"banned",
           [](LogitRules& r) {
             r.banned = {{1, 4, 2}, {4, 5}, {1, 3}};
           }},
          {"min_tokens", [](LogitRules& r) {
             r.min_tokens = 4;
             r.ends = {4};
           }}};
}

// The distribution that the rules say, in double, from their definitions.
std::vector<double> Expected(const LogitRules& rules, const std::vector<float>& logits) {
  std::vector<double> x(logits.begin(), logits.end());
  for (const auto& [id, bias] : rules.bias) x[static_cast<size_t>(id)] += bias;
  for (size_t id = 0; id < x.size(); ++id) {
    const auto token = static_cast<int32_t>(id);
    const auto count = std::count(kAnswer.begin(), kAnswer.end(), token);
    const bool in_prompt = std::count(kPrompt.begin(), kPrompt.end(), token) > 0;
    if (count > 0 || in_prompt) {
      x[id] = x[id] > 0 ? x[id] / rules.repetition_penalty : x[id] * rules.repetition_penalty;
    }
    x[id] -= rules.frequency_penalty * static_cast<double>(count);
    if (count > 0) x[id] -= rules.presence_penalty;
  }
  double total = 0;
  for (size_t id = 0; id < x.size(); ++id) {
    const auto token = static_cast<int32_t>(id);
    bool out =
        rules.allows_some && std::count(rules.allowed.begin(), rules.allowed.end(), token) == 0;
    // Of the banned sequences only 1 4 2 and 4 5 have been begun.
    if (!rules.banned.empty()) out |= token == 2 || token == 5;
    if (rules.min_tokens > kAnswer.size()) out |= token == 4;
    x[id] = out ? 0 : std::exp(x[id]);
    total += x[id];
  }
  for (double& p : x) p /= total;
  return x;
}

// How often each id is drawn of `draws`, in batches of rows with the same rules.
std::vector<int> Draw(const LogitRules& rules, const std::vector<float>& logits, int draws) {
  constexpr int kBatch = 500;
  const auto device = *cpu::CreateCpuDevice({.num_threads = 1});
  const auto memory = *StepMemory::Create(*device, {.uploads = 100000});
  const LogitEditor editor(*device, *memory, kTokens);
  LogitHistory history(rules, static_cast<uint32_t>(kPrompt.size()));
  for (const std::vector<int32_t>* ids : {&kPrompt, &kAnswer}) {
    for (const int32_t id : *ids) history.Add(id);
  }
  const std::vector<const LogitHistory*> histories(kBatch, &history);
  std::vector<int> counts(kTokens);
  Arena arena;
  for (int begin = 0; begin < draws; begin += kBatch) {
    std::vector<float> rows, ones(kBatch, 1.0f), zeros(kBatch, 0.0f);
    std::vector<int32_t> off(kBatch, 0), ids(kBatch);
    std::vector<uint64_t> seed(kBatch, 17);
    std::vector<uint32_t> sample(kBatch, 0), token;
    for (int i = 0; i < kBatch; ++i) {
      rows.insert(rows.end(), logits.begin(), logits.end());
      token.push_back(static_cast<uint32_t>(begin + i));
    }
    const TensorView view(rows.data(), DType::kF32, {kBatch, kTokens});
    EXPECT_TRUE(editor.Edit(histories, view, arena).ok());
    const SampleParams params{.temperature = TensorView(ones.data(), DType::kF32, {kBatch}),
                              .top_k = TensorView(off.data(), DType::kI32, {kBatch}),
                              .top_p = TensorView(ones.data(), DType::kF32, {kBatch}),
                              .min_p = TensorView(zeros.data(), DType::kF32, {kBatch}),
                              .seed = TensorView(seed.data(), DType::kU64, {kBatch}),
                              .sample_index = TensorView(sample.data(), DType::kU32, {kBatch}),
                              .token_index = TensorView(token.data(), DType::kU32, {kBatch})};
    device->ops().Sample({.logits = view,
                          .num_tokens = kTokens,
                          .params = &params,
                          .id = TensorView(ids.data(), DType::kI32, {kBatch})},
                         arena);
    EXPECT_TRUE(device->Synchronize().ok());
    for (const int32_t id : ids) ++counts[static_cast<size_t>(id)];
  }
  return counts;
}

// Every parameter alone and every two together.
TEST(LogitEditorTest, RulesGiveTheirDistributions) {
  // With at most 5 degrees of freedom chi-square exceeds 25 with probability 1.4e-4; the seed is
  // fixed.
  constexpr double kChiSquareLimit = 25;
  constexpr int kDraws = 4000;
  std::vector<float> logits;
  logits.reserve(kProbabilities.size());
  for (const double p : kProbabilities) logits.push_back(static_cast<float>(std::log(p)) + 2.0f);
  const std::vector<Parameter> parameters = Parameters();
  for (size_t a = 0; a < parameters.size(); ++a) {
    for (size_t b = a; b < parameters.size(); ++b) {
      LogitRules rules;
      parameters[a].set(rules);
      parameters[b].set(rules);
      const std::vector<double> expected = Expected(rules, logits);
      const std::vector<int> counts = Draw(rules, logits, kDraws);
      double chi = 0;
      for (size_t id = 0; id < expected.size(); ++id) {
        const double mean = expected[id] * kDraws;
        if (mean == 0) {
          EXPECT_EQ(counts[id], 0) << parameters[a].name << ", " << parameters[b].name;
        } else {
          chi += (counts[id] - mean) * (counts[id] - mean) / mean;
        }
      }
      EXPECT_LT(chi, kChiSquareLimit) << parameters[a].name << ", " << parameters[b].name;
    }
  }
}

// More entries than travel to the device at once, and than a step has room for.
TEST(LogitEditorTest, ManyEntriesAreAllPutOn) {
  constexpr int64_t kWide = 5000;
  LogitRules rules;
  for (int32_t id = 0; id < kWide; ++id) rules.bias.emplace_back(id, static_cast<float>(id));
  const LogitHistory history(rules, 0);
  const std::vector<const LogitHistory*> histories = {&history, nullptr, &history};
  std::vector<float> logits(3 * kWide, 1.0f);
  const auto device = *cpu::CreateCpuDevice({.num_threads = 1});
  const auto memory = *StepMemory::Create(*device, {.uploads = 1000});
  Arena arena;
  ASSERT_TRUE(LogitEditor(*device, *memory, kWide)
                  .Edit(histories, TensorView(logits.data(), DType::kF32, {3, kWide}), arena)
                  .ok());
  for (size_t i = 0; i < logits.size(); ++i) {
    const bool untouched = i / kWide == 1;
    EXPECT_EQ(logits[i], untouched ? 1.0f : 1.0f + static_cast<float>(i % kWide)) << i;
  }
}

}  // namespace
}  // namespace deltaserve
