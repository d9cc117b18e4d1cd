// The sampler over logits that are split over ranks, against one rank that has them whole.

#include "worker/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_device.h"
#include "worker/comm/thread_communicator.h"
#include "worker/comm/thread_world.h"

namespace deltaserve {
namespace {

constexpr int64_t kVocabRows = 203;
constexpr int64_t kNumTokens = 197;  // ids from here on have no token

struct Case {
  ScorePlan score;
  std::vector<SamplingSettings> settings;         // one a sampled row, in plan order
  std::vector<std::vector<float>> logits;         // one a scored row: kVocabRows
  std::vector<const LogitHistory*> histories;     // one a sampled row
  std::vector<std::vector<int32_t>> logprob_ids;  // one a sampled row
};

// Rows of every kind in turn, decodes first, with more of each kind than travel at once.
Case MakeCase(int64_t sampled, int64_t logit_rows, int64_t prompt_rows = 0) {
  Case test;
  std::mt19937 random(11);
  for (int64_t i = 0; i < sampled; ++i) {
    SamplingSettings settings{.temperature = 0, .seed = random()};
    if (i % 4 == 1) settings.temperature = 0.9f;
    if (i % 4 >= 2) {
      settings = {
          .temperature = 1.1f, .top_p = 0.9f, .top_k = 30, .min_p = 0.01f, .seed = random()};
    }
    test.settings.push_back(settings);
    test.histories.push_back(nullptr);
    test.logprob_ids.emplace_back();
    const bool logprobs = i % 4 == 3;
    test.score.sampled.push_back({.slot = static_cast<int32_t>(i),
                                  .scored = static_cast<int32_t>(i),
                                  .scoring = ScoringOf(settings, /*rules=*/false, logprobs),
                                  .num_top = logprobs ? static_cast<int>(i % 21) : 0});
    test.score.rows.push_back(static_cast<int32_t>(i));
  }
  for (int64_t i = 0; i < logit_rows; ++i) {
    test.score.logits.push_back({.scored = static_cast<int32_t>(sampled + i)});
    test.score.rows.push_back(static_cast<int32_t>(sampled + i));
  }
  for (int64_t i = 0; i < prompt_rows; ++i) {
    const auto row = static_cast<int32_t>(sampled + logit_rows + i);
    test.score.prompt.push_back({.id = static_cast<int32_t>(random() % kNumTokens),
                                 .scored = row,
                                 .num_top = static_cast<int>(i % 21)});
    test.score.rows.push_back(row);
  }
  for (const bool merged : {true, false}) {
    for (size_t i = 0; i < test.score.sampled.size(); ++i) {
      if ((test.score.sampled[i].scoring == Scoring::kMerged) == merged) {
        test.score.order.push_back(static_cast<int32_t>(i));
      }
    }
    if (merged) test.score.num_merged = static_cast<int64_t>(test.score.order.size());
  }
  for (size_t row = 0; row < test.score.rows.size(); ++row) {
    std::vector<float> logits(kVocabRows);
    // Few values: ties in every row.
    for (float& logit : logits) logit = static_cast<float>(random() % 23) * 0.25f;
    for (size_t id = kNumTokens; id < kVocabRows; ++id) logits[id] = 1e6f;
    test.logits.push_back(std::move(logits));
  }
  return test;
}

// What one rank's sampler gives; it holds ids [rank * local, (rank + 1) * local).
absl::StatusOr<StepResult> RunRank(const Case& test, Communicator& comm, Device& device) {
  const int64_t local = (kVocabRows + comm.size() - 1) / comm.size();
  const int64_t begin = comm.rank() * local;
  const int64_t rows = static_cast<int64_t>(test.logits.size());
  std::vector<float> mine(static_cast<size_t>(rows * local), 1e9f);  // padding must not win
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t id = begin; id < std::min(begin + local, kVocabRows); ++id) {
      mine[static_cast<size_t>(row * local + id - begin)] =
          test.logits[static_cast<size_t>(row)][static_cast<size_t>(id)];
    }
  }
  std::vector<float> temperature, top_p, min_p;
  std::vector<int32_t> top_k, sampled_scored, sampled_slot, logits_scored, prompt_scored,
      prompt_ids;
  std::vector<uint64_t> seed;
  std::vector<uint32_t> sample_index, token_index;
  for (const int32_t i : test.score.order) {
    const SamplingSettings& settings = test.settings[static_cast<size_t>(i)];
    temperature.push_back(settings.temperature);
    top_p.push_back(settings.top_p);
    min_p.push_back(settings.min_p);
    top_k.push_back(settings.top_k);
    seed.push_back(settings.seed);
    sample_index.push_back(1);
    token_index.push_back(static_cast<uint32_t>(test.score.sampled[static_cast<size_t>(i)].slot));
    sampled_scored.push_back(test.score.sampled[static_cast<size_t>(i)].scored);
    sampled_slot.push_back(static_cast<int32_t>(sampled_slot.size()));
  }
  for (const auto& wanted : test.score.logits) logits_scored.push_back(wanted.scored);
  for (const auto& token : test.score.prompt) {
    prompt_scored.push_back(token.scored);
    prompt_ids.push_back(token.id);
  }
  const int64_t prompt = static_cast<int64_t>(prompt_ids.size());
  const int64_t sampled = static_cast<int64_t>(test.score.order.size());
  const auto sampler = *Sampler::Create(device, comm,
                                        {.vocab_rows = kVocabRows,
                                         .num_tokens = kNumTokens,
                                         .local_rows = local,
                                         .local_begin = begin,
                                         .slots = sampled,
                                         .scored_rows = prompt,
                                         .logit_rows = static_cast<int64_t>(logits_scored.size())});
  std::vector<int32_t> forced(static_cast<size_t>(sampled), -1);
  std::vector<int32_t> last_token(static_cast<size_t>(sampled));
  Arena arena;
  const absl::StatusOr<Sampler::Started> started = sampler->Start(
      {.score = &test.score,
       .logits = TensorView(mine.data(), DType::kF32, {rows, local}),
       .params = {.temperature = TensorView(temperature.data(), DType::kF32, {sampled}),
                  .top_k = TensorView(top_k.data(), DType::kI32, {sampled}),
                  .top_p = TensorView(top_p.data(), DType::kF32, {sampled}),
                  .min_p = TensorView(min_p.data(), DType::kF32, {sampled}),
                  .seed = TensorView(seed.data(), DType::kU64, {sampled}),
                  .sample_index = TensorView(sample_index.data(), DType::kU32, {sampled}),
                  .token_index = TensorView(token_index.data(), DType::kU32, {sampled})},
       .sampled_scored = TensorView(sampled_scored.data(), DType::kI32, {sampled}),
       .sampled_slot = TensorView(sampled_slot.data(), DType::kI32, {sampled}),
       .forced_ids = TensorView(forced.data(), DType::kI32, {sampled}),
       .slot_last_token = TensorView(last_token.data(), DType::kI32, {sampled}),
       .logits_scored = TensorView(logits_scored.data(), DType::kI32,
                                   {static_cast<int64_t>(logits_scored.size())}),
       .prompt_scored = TensorView(prompt_scored.data(), DType::kI32, {prompt}),
       .prompt_ids = TensorView(prompt_ids.data(), DType::kI32, {prompt}),
       .forced = std::vector<int32_t>(test.score.sampled.size(), -1),
       .histories = test.histories,
       .logprob_ids = {test.logprob_ids.begin(), test.logprob_ids.end()}},
      arena);
  if (!started.ok()) return started.status();
  EXPECT_TRUE(
      std::equal(last_token.begin(), last_token.end(), started->ids.begin(), started->ids.end()));
  return sampler->Finish(test.score, *started);
}

std::vector<absl::StatusOr<StepResult>> RunAll(const Case& test, int ranks) {
  ThreadWorld world(ranks);
  std::vector<absl::StatusOr<StepResult>> results(static_cast<size_t>(ranks),
                                                  absl::UnknownError("not run"));
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      const auto device = *cpu::CreateCpuDevice({.num_threads = 1});
      const auto comm = CreateThreadCommunicator(world, rank, *device);
      results[static_cast<size_t>(rank)] = RunRank(test, *comm, *device);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return results;
}

StepResult RunWhole(const Case& test) {
  auto results = RunAll(test, 1);
  EXPECT_TRUE(results[0].ok()) << results[0].status();
  return *std::move(results[0]);
}

double LogProbOf(const std::vector<float>& row, int32_t id) {
  double sum = 0;
  for (size_t other = 0; other < kNumTokens; ++other) {
    sum += std::exp(static_cast<double>(row[other]));
  }
  return row[static_cast<size_t>(id)] - std::log(sum);
}

void ExpectScore(const TokenLogProb& got, const std::vector<float>& row, size_t num_top) {
  const auto real = row.begin() + kNumTokens;
  const float own = row[static_cast<size_t>(got.id)];
  EXPECT_NEAR(got.logprob, LogProbOf(row, got.id), 1e-4);
  EXPECT_EQ(got.rank, 1 + std::count_if(row.begin(), real, [own](float x) { return x > own; }));
  ASSERT_EQ(got.top.size(), num_top);
  std::vector<float> sorted(row.begin(), real);
  std::sort(sorted.begin(), sorted.end(), std::greater<float>());
  for (size_t i = 0; i < num_top; ++i) {
    EXPECT_EQ(row[static_cast<size_t>(got.top[i].first)], sorted[i]) << i;
    EXPECT_NEAR(got.top[i].second, LogProbOf(row, got.top[i].first), 1e-4) << i;
  }
}

class SamplerTest : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, SamplerTest, ::testing::Values(1, 2, 4));

TEST_P(SamplerTest, GivesOnEveryRankWhatOneRankGives) {
  // 100 sampled rows: half of them are gathered, in two blocks; 40 rows of logits, in two.
  const Case test = MakeCase(100, 40);
  const StepResult whole = RunWhole(test);
  const auto results = RunAll(test, GetParam());
  for (const auto& result : results) {
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->ids, whole.ids);
  }
  for (size_t rank = 1; rank < results.size(); ++rank) {
    EXPECT_TRUE(results[rank]->logprobs.empty());
    EXPECT_TRUE(results[rank]->logits.empty());
  }
  ASSERT_EQ(results[0]->logprobs.size(), whole.logprobs.size());
  for (size_t i = 0; i < whole.logprobs.size(); ++i) {
    EXPECT_EQ(results[0]->logprobs[i].id, whole.logprobs[i].id) << i;
    EXPECT_EQ(results[0]->logprobs[i].logprob, whole.logprobs[i].logprob) << i;
    EXPECT_EQ(results[0]->logprobs[i].rank, whole.logprobs[i].rank) << i;
    EXPECT_EQ(results[0]->logprobs[i].top, whole.logprobs[i].top) << i;
  }
  for (size_t i = 0; i < test.score.logits.size(); ++i) {
    EXPECT_EQ(results[0]->logits[i], test.logits[100 + i]) << i;
  }
}

TEST_P(SamplerTest, GreedyTakesTheLowestIdOfEquals) {
  const Case test = MakeCase(12, 0);
  const auto results = RunAll(test, GetParam());
  ASSERT_TRUE(results[0].ok());
  for (size_t i = 0; i < 12; i += 4) {
    const auto begin = test.logits[i].begin();
    const auto best = std::max_element(begin, begin + kNumTokens);
    EXPECT_EQ(results[0]->ids[i], best - begin) << i;
  }
}

TEST_P(SamplerTest, ARowsResultDoesNotDependOnTheOthers) {
  const Case all = MakeCase(100, 3);
  const auto together = RunAll(all, GetParam());
  ASSERT_TRUE(together[0].ok());
  for (size_t i = 0; i < 100; i += 7) {
    Case one;
    one.settings = {all.settings[i]};
    one.logits = {all.logits[i]};
    one.histories = {all.histories[i]};
    one.logprob_ids = {all.logprob_ids[i]};
    one.score.rows = {0};
    one.score.sampled = {all.score.sampled[i]};
    one.score.sampled[0].scored = 0;
    one.score.order = {0};
    one.score.num_merged = one.score.sampled[0].scoring == Scoring::kMerged ? 1 : 0;
    const auto alone = RunAll(one, GetParam());
    ASSERT_TRUE(alone[0].ok());
    EXPECT_EQ(alone[0]->ids[0], together[0]->ids[i]) << i;
  }
}

TEST_P(SamplerTest, LogprobsAreOfTheRawLogits) {
  const Case test = MakeCase(8, 0);
  const auto results = RunAll(test, GetParam());
  ASSERT_TRUE(results[0].ok());
  for (const size_t i : {3u, 7u}) {
    const TokenLogProb& got = results[0]->logprobs[i];
    EXPECT_EQ(got.id, results[0]->ids[i]);
    ExpectScore(got, test.logits[i], i);  // as many as the row asked for, not as the batch did
  }
  EXPECT_TRUE(results[0]->logprobs[2].top.empty());
}

TEST_P(SamplerTest, PromptTokensAreScoredInBlocksByTheirOwnRows) {
  const Case test = MakeCase(3, 2, 70);  // 32, 32 and 6 rows
  const auto results = RunAll(test, GetParam());
  ASSERT_TRUE(results[0].ok());
  ASSERT_EQ(results[0]->prompt_scores.size(), 70u);
  for (size_t i = 0; i < 70; ++i) {
    SCOPED_TRACE(i);
    EXPECT_EQ(results[0]->prompt_scores[i].id, test.score.prompt[i].id);
    ExpectScore(results[0]->prompt_scores[i], test.logits[5 + i], i % 21);
  }
  for (size_t rank = 1; rank < results.size(); ++rank) {
    EXPECT_TRUE(results[rank]->prompt_scores.empty());
  }
}

// Ids that are among the alternatives are not told twice; order is as asked for.
TEST_P(SamplerTest, NamedIdsFollowTheAlternativesOfTheirRow) {
  Case test = MakeCase(100, 0);
  std::vector<int32_t> all(128);
  std::iota(all.begin(), all.end(), kNumTokens - 128);
  const auto plain = RunAll(test, GetParam());
  ASSERT_TRUE(plain[0].ok());
  test.logprob_ids[3] = {180, plain[0]->logprobs[3].top[1].first, 0};
  test.logprob_ids[99] = all;
  test.logprob_ids[2] = {5};  // a row that wants no log-probabilities
  const auto results = RunAll(test, GetParam());
  ASSERT_TRUE(results[0].ok());
  EXPECT_TRUE(results[0]->logprobs[2].top.empty());
  ExpectScore(results[0]->logprobs[7], test.logits[7], 7);  // between rows that name some
  const auto ids_after_top = [&](size_t row) {
    const TokenLogProb& got = results[0]->logprobs[row];
    const TokenLogProb& without = plain[0]->logprobs[row];
    std::vector<int32_t> ids;
    for (size_t i = 0; i < got.top.size(); ++i) {
      const auto& [id, logprob] = got.top[i];
      if (i < without.top.size()) {
        EXPECT_EQ(got.top[i], without.top[i]) << i;
        continue;
      }
      EXPECT_NEAR(logprob, LogProbOf(test.logits[row], id), 1e-4) << id;
      ids.push_back(id);
    }
    return ids;
  };
  EXPECT_THAT(ids_after_top(3), ::testing::ElementsAre(180, 0));
  for (const auto& [id, unused] : plain[0]->logprobs[99].top) {
    all.erase(std::remove(all.begin(), all.end(), id), all.end());
  }
  EXPECT_EQ(ids_after_top(99), all);
}

// The rules choose another token; the log-probabilities stay those of the model.
TEST_P(SamplerTest, RulesBindTheirOwnRowsAlone) {
  const Case plain = MakeCase(40, 0);
  Case ruled = plain;
  const auto without = RunAll(plain, GetParam());
  ASSERT_TRUE(without[0].ok());
  // A row of filters and one of log-probabilities; what they chose is banned, and id 5 is wanted.
  std::vector<LogitHistory> histories;
  histories.reserve(2);
  for (const size_t row : {2u, 7u}) {
    histories.emplace_back(LogitRules{.bias = {{5, 100.0f}}, .banned = {{without[0]->ids[row]}}},
                           0);
    ruled.histories[row] = &histories.back();
  }
  const auto results = RunAll(ruled, GetParam());
  for (const auto& result : results) {
    ASSERT_TRUE(result.ok()) << result.status();
    for (size_t row = 0; row < 40; ++row) {
      const bool bound = row == 2 || row == 7;
      EXPECT_EQ(result->ids[row], bound ? 5 : without[0]->ids[row]) << row;
    }
  }
  EXPECT_NEAR(results[0]->logprobs[7].logprob, LogProbOf(plain.logits[7], 5), 1e-4);
  EXPECT_EQ(results[0]->logprobs[7].top, without[0]->logprobs[7].top);
}

TEST_P(SamplerTest, RowsWithoutFiniteLogitsEndTheWorldOnEveryRank) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    Case test = MakeCase(2, 0);
    test.logits[0].assign(kVocabRows, bad);
    for (const auto& result : RunAll(test, GetParam())) {
      EXPECT_EQ(result.status().code(), absl::StatusCode::kInternal) << bad;
    }
  }
}

}  // namespace
}  // namespace deltaserve
