// SampleLocal and Sample.

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "gmock/gmock.h"
#include "kernels/random.h"
#include "tests/kernels/op_test.h"

namespace deltaserve {
namespace {

using testing::ElementsAre;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Parameters of one row.
struct RowParams {
  float temperature = 1.0f;
  int32_t top_k = 0;
  float top_p = 1.0f;
  float min_p = 0.0f;
  uint64_t seed = 0;
  uint32_t sample_index = 0;
  uint32_t token_index = 0;
};

SampleParams PutParams(Session& s, const std::vector<RowParams>& rows) {
  const auto column = [&](auto member) {
    std::vector<std::remove_cvref_t<decltype(rows[0].*member)>> values;
    values.reserve(rows.size());
    for (const RowParams& row : rows) values.push_back(row.*member);
    return s.Put(values);
  };
  return {.temperature = column(&RowParams::temperature),
          .top_k = column(&RowParams::top_k),
          .top_p = column(&RowParams::top_p),
          .min_p = column(&RowParams::min_p),
          .seed = column(&RowParams::seed),
          .sample_index = column(&RowParams::sample_index),
          .token_index = column(&RowParams::token_index)};
}

std::vector<int32_t> Sample(Device& device,
                            const std::vector<float>& logits,
                            const std::vector<RowParams>& params,
                            int64_t num_tokens) {
  Session s(device);
  const auto rows = static_cast<int64_t>(params.size());
  const SampleParams on_device = PutParams(s, params);
  const TensorView id = s.NewI32({rows});
  const int64_t width = rows == 0 ? num_tokens : static_cast<int64_t>(logits.size()) / rows;
  s.ops().Sample({.logits = s.Put(logits, {rows, width}),
                  .num_tokens = num_tokens,
                  .params = &on_device,
                  .id = id},
                 s.arena());
  return s.Get<int32_t>(id);
}

struct LocalResult {
  std::vector<float> value;
  std::vector<int32_t> id;
};

// Columns [first, first + width) of logits [rows, vocabulary], as the rank that holds them.
LocalResult SampleLocal(Device& device,
                        const std::vector<float>& logits,
                        int64_t first,
                        int64_t width,
                        const std::vector<RowParams>& params,
                        int64_t num_tokens) {
  Session s(device);
  const auto rows = static_cast<int64_t>(params.size());
  const int64_t vocabulary = static_cast<int64_t>(logits.size()) / rows;
  std::vector<float> part;
  for (int64_t r = 0; r < rows; ++r) {
    const auto columns = RowsOf(logits, 1, r * vocabulary + first, width);
    part.insert(part.end(), columns.begin(), columns.end());
  }
  const SampleParams on_device = PutParams(s, params);
  const TensorView value = s.NewF32({rows});
  const TensorView id = s.NewI32({rows});
  s.ops().SampleLocal({.logits = s.Put(part, {rows, width}),
                       .first_id = first,
                       .num_tokens = num_tokens,
                       .params = &on_device,
                       .value = value,
                       .id = id});
  return {s.Floats(value), s.Get<int32_t>(id)};
}

class SampleTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    device_ = MakeDevice(GetParam());
    if (device_ == nullptr) GTEST_SKIP() << "no " << GetParam();
  }
  std::unique_ptr<Device> device_;
};

TEST_P(SampleTest, GreedyTakesTheLargestLogitAndTheLowestIdOfTies) {
  const std::vector<RowParams> greedy(3, RowParams{.temperature = 0.0f, .top_k = 1});
  EXPECT_THAT(Sample(*device_, {1, 5, 5, 2, 9, -1, -2, -1, -3, 9, 0, 0, 7, 7, 9}, greedy, 4),
              ElementsAre(1, 0, 2));
}

TEST_P(SampleTest, PaddingIdsAreNeverChosen) {
  std::vector<RowParams> params;
  std::vector<float> logits;
  for (uint32_t i = 0; i < 64; ++i) {
    params.push_back({.temperature = i % 4 == 0 ? 0.0f : 1.0f,
                      .top_k = i % 4 == 2 ? 5 : 0,
                      .top_p = i % 4 == 3 ? 0.99f : 1.0f,
                      .token_index = i});
    for (int id = 0; id < 9; ++id) logits.push_back(id < 7 ? 0.0f : 50.0f);
  }
  for (const int32_t id : Sample(*device_, logits, params, 7)) EXPECT_LT(id, 7);
  const LocalResult none = SampleLocal(*device_, logits, 7, 2, params, 7);
  for (const float value : none.value) EXPECT_EQ(value, -kInfinity);
  for (const int32_t id : none.id) EXPECT_EQ(id, std::numeric_limits<int32_t>::max());
}

TEST_P(SampleTest, MergedPartsOfTheVocabularyGiveTheWholesToken) {
  Rng rng(91);
  constexpr int64_t kVocabulary = 1003;
  constexpr int64_t kTokens = 990;
  std::vector<RowParams> params;
  for (uint32_t r = 0; r < 24; ++r) {
    params.push_back({.temperature = r % 3 == 0 ? 0.0f : 0.25f * static_cast<float>(r % 7 + 1),
                      .seed = 1000 + r / 2,
                      .sample_index = r % 2,
                      .token_index = r});
  }
  const auto logits = Normal(rng, 24 * kVocabulary);
  const auto whole = Sample(*device_, logits, params, kTokens);
  for (const std::vector<int64_t>& cuts :
       {std::vector<int64_t>{0, 1003}, std::vector<int64_t>{0, 501, 1003},
        std::vector<int64_t>{0, 1, 250, 251, 995, 1003}}) {
    std::vector<float> best(24, -kInfinity);
    std::vector<int32_t> id(24, std::numeric_limits<int32_t>::max());
    for (size_t c = 0; c + 1 < cuts.size(); ++c) {
      const LocalResult part =
          SampleLocal(*device_, logits, cuts[c], cuts[c + 1] - cuts[c], params, kTokens);
      for (size_t r = 0; r < 24; ++r) {
        if (part.value[r] > best[r] || (part.value[r] == best[r] && part.id[r] < id[r])) {
          best[r] = part.value[r];
          id[r] = part.id[r];
        }
      }
    }
    EXPECT_EQ(id, whole) << cuts.size() - 1 << " parts";
  }
}

// Chi-square statistic of `draws` samples of one row of logits against probabilities; an id of no
// probability must not occur.
double ChiSquare(Device& device,
                 const std::vector<float>& row,
                 RowParams params,
                 const std::vector<double>& expected,
                 int draws) {
  constexpr int kBatch = 500;
  std::map<int32_t, int> counts;
  for (int begin = 0; begin < draws; begin += kBatch) {
    std::vector<float> logits;
    std::vector<RowParams> rows;
    for (int i = begin; i < std::min(draws, begin + kBatch); ++i) {
      logits.insert(logits.end(), row.begin(), row.end());
      params.token_index = static_cast<uint32_t>(i);
      rows.push_back(params);
    }
    for (const int32_t id : Sample(device, logits, rows, static_cast<int64_t>(row.size()))) {
      ++counts[id];
    }
  }
  double chi = 0;
  for (size_t id = 0; id < expected.size(); ++id) {
    const int count = counts[static_cast<int32_t>(id)];
    const double mean = expected[id] * draws;
    if (expected[id] == 0) {
      EXPECT_EQ(count, 0) << "id " << id;
    } else {
      chi += (count - mean) * (count - mean) / mean;
    }
  }
  return chi;
}

struct FilterCase {
  const char* name;
  RowParams params;
  std::vector<double> weights;  // of the ids of kLogProbabilities, before normalising
};

// Ids 0..5 with probabilities .05 .4 .1 .25 .15 .05 at temperature 1.
const std::vector<double> kProbabilities = {0.05, 0.4, 0.1, 0.25, 0.15, 0.05};

std::vector<FilterCase> FilterCases() {
  const std::vector<double>& p = kProbabilities;
  std::vector<double> squares;
  squares.reserve(p.size());
  for (const double x : p) squares.push_back(x * x);
  return {
      {"none", {.seed = 5}, p},
      {"another_sample", {.seed = 5, .sample_index = 3}, p},
      {"temperature", {.temperature = 0.5f, .seed = 6}, squares},
      {"top_k", {.top_k = 3, .seed = 7}, {0, 0.4, 0, 0.25, 0.15, 0}},
      // The two ids of .05 tie for the fifth place: the lower one stays.
      {"top_k_tie", {.top_k = 5, .seed = 8}, {0.05, 0.4, 0.1, 0.25, 0.15, 0}},
      {"top_k_beyond", {.top_k = 99, .seed = 9}, p},
      // Before the third id the mass is .65 < .7, before the fourth .8.
      {"top_p", {.top_p = 0.7f, .seed = 10}, {0, 0.4, 0, 0.25, 0.15, 0}},
      {"top_p_tiny", {.top_p = 1e-6f, .seed = 11}, {0, 1, 0, 0, 0, 0}},
      // .25 * .4 = .1: ids of .05 go. (Slightly below, so that .1 is not on the edge.)
      {"min_p", {.min_p = 0.24f, .seed = 12}, {0, 0.4, 0.1, 0.25, 0.15, 0}},
      // top_k leaves .4 .25 .15 (sum .8); before the third the mass is .8125 of that, so .8 cuts
      // there where .8 of the whole would not.
      {"top_k_then_top_p", {.top_k = 3, .top_p = 0.8f, .seed = 13}, {0, 0.4, 0, 0.25, 0, 0}},
      // Before the fifth id .9 >= .85: four stay; then min_p of .3 * .4 = .12 leaves three.
      {"top_p_then_min_p", {.top_p = 0.85f, .min_p = 0.3f, .seed = 14}, {0, 0.4, 0, 0.25, 0.15, 0}},
      {"min_p_of_all_but_best", {.min_p = 1.0f, .seed = 15}, {0, 1, 0, 0, 0, 0}}};
}

TEST_P(SampleTest, FiltersGiveTheirDistributions) {
  // Chi-square with at most 5 degrees of freedom exceeds 25 with probability 1.4e-4; seeds are
  // fixed.
  constexpr double kChiSquareLimit = 25;
  // The shim is slow; of its draws too an id of .05 gets 10, enough for the statistic.
  const int draws = GetParam() == "cuda_shim" ? 200 : 8000;
  std::vector<float> logits;
  logits.reserve(kProbabilities.size());
  for (const double p : kProbabilities) logits.push_back(static_cast<float>(std::log(p)) + 3.0f);
  for (const FilterCase& test : FilterCases()) {
    double total = 0;
    for (const double w : test.weights) total += w;
    std::vector<double> expected;
    expected.reserve(test.weights.size());
    for (const double w : test.weights) expected.push_back(w / total);
    EXPECT_LT(ChiSquare(*device_, logits, test.params, expected, draws), kChiSquareLimit)
        << test.name;
  }
}

TEST_P(SampleTest, AgreesWithTheReferenceOnLongRows) {
  Rng rng(93);
  constexpr int64_t kVocabulary = 3001;
  std::vector<RowParams> params;
  for (uint32_t r = 0; r < 40; ++r) {
    params.push_back({.temperature = 0.3f + 0.1f * static_cast<float>(r % 9),
                      .top_k = r % 2 == 0 ? 0 : static_cast<int32_t>(50 * r),
                      .top_p = r % 3 == 0 ? 1.0f : 0.3f + 0.015f * static_cast<float>(r),
                      .min_p = r % 5 == 0 ? 0.01f : 0.0f,
                      .seed = r,
                      .token_index = 17 * r});
  }
  const auto logits = Normal(rng, 40 * kVocabulary, 1.5f);
  EXPECT_EQ(Sample(*device_, logits, params, kVocabulary),
            Sample(*MakeDevice("reference"), logits, params, kVocabulary));
}

TEST_P(SampleTest, RowsAndOrderDoNotEnterTheDraw) {
  Rng rng(95);
  const auto logits = Normal(rng, int64_t{6} * 500);
  std::vector<RowParams> params(6, RowParams{.seed = 3});
  for (uint32_t r = 0; r < 6; ++r) {
    params[r].token_index = r;
    params[r].top_k = r < 3 ? 0 : 40;
  }
  const auto together = Sample(*device_, logits, params, 500);
  for (size_t r = 0; r < 6; ++r) {
    const auto row = RowsOf(logits, 500, static_cast<int64_t>(r), 1);
    EXPECT_EQ(Sample(*device_, row, {params[r]}, 500)[0], together[r]) << r;
  }
}

TEST_P(SampleTest, MinusInfinityIsNeverChosenWhileAnotherIdIsLeft) {
  std::vector<RowParams> params;
  std::vector<float> logits;
  for (uint32_t i = 0; i < 40; ++i) {
    params.push_back({.top_k = i % 2 == 0 ? 0 : 3, .top_p = i % 3 == 0 ? 1.0f : 0.9f, .seed = i});
    logits.insert(logits.end(), {-kInfinity, -40.0f, -kInfinity, -kInfinity});
  }
  for (const int32_t id : Sample(*device_, logits, params, 4)) EXPECT_EQ(id, 1);
}

TEST_P(SampleTest, ARowOfNaNGivesNoIdAndOneNaNIsPassedOver) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<RowParams> params = {{.temperature = 0.0f}, {}, {.top_k = 2},
                                         {.temperature = 0.0f}, {}, {.top_p = 0.5f}};
  std::vector<float> logits(18, nan);
  for (size_t i = 9; i < 18; ++i) logits[i] = i % 3 == 1 ? nan : i % 3 == 0 ? -90.0f : 1.0f;
  const int32_t none = std::numeric_limits<int32_t>::max();
  EXPECT_THAT(Sample(*device_, logits, params, 3), ElementsAre(none, none, none, 2, 2, 2));
}

// One row of logits at a temperature, and the noise of many keys, of which those are chosen that
// put a given id first.
class KeptIds {
 public:
  KeptIds(std::vector<float> logits, float temperature)
      : logits_(std::move(logits)), temperature_(temperature), order_(logits_.size()) {
    std::iota(order_.begin(), order_.end(), 0);
    std::stable_sort(order_.begin(), order_.end(),
                     [this](int32_t a, int32_t b) { return LogitOf(a) > LogitOf(b); });
    for (uint32_t key = 0; key < 4000; ++key) winner_.push_back(Best(order_.size(), key));
  }

  const std::vector<float>& logits() const { return logits_; }
  float temperature() const { return temperature_; }
  // The id at `place` of the order; its weight.
  int32_t Id(size_t place) const { return order_[place]; }
  double Weight(size_t place) const {
    return std::exp(static_cast<double>(LogitOf(Id(place)) - LogitOf(Id(0))) /
                    static_cast<double>(temperature_));
  }
  // Of the first `count`.
  double Weights(size_t count) const {
    double sum = 0;
    for (size_t place = 0; place < count; ++place) sum += Weight(place);
    return sum;
  }
  // The id that is drawn where the first `kept` are kept.
  int32_t Best(size_t kept, uint32_t key) const {
    int32_t best = Id(0);
    float most = -kInfinity;
    for (size_t place = 0; place < kept; ++place) {
      const int32_t id = Id(place);
      const float value = LogitOf(id) / temperature_ + Gumbel(1, 0, key, static_cast<uint32_t>(id));
      if (value > most) {
        most = value;
        best = id;
      }
    }
    return best;
  }
  // A key by which the id at `place` comes first of all.
  uint32_t KeyFor(size_t place) const {
    const auto at = std::find(winner_.begin(), winner_.end(), Id(place));
    EXPECT_NE(at, winner_.end()) << "no key for place " << place;
    return static_cast<uint32_t>(at - winner_.begin());
  }

 private:
  float LogitOf(int32_t id) const { return logits_[static_cast<size_t>(id)]; }

  std::vector<float> logits_;
  float temperature_;
  std::vector<int32_t> order_;
  std::vector<int32_t> winner_;  // by key
};

// The ways to keep the first `kept` ids. Limits lie in the middle between two ids.
std::vector<RowParams> WaysToKeep(const KeptIds& ids, size_t kept) {
  const size_t more = std::min(kept + 20, ids.logits().size());
  const double share = ids.Weights(kept - 1) + ids.Weight(kept - 1) / 2;
  const float temperature = ids.temperature();
  std::vector<RowParams> ways = {
      {.temperature = temperature, .top_k = static_cast<int32_t>(kept)},
      {.temperature = temperature, .top_p = static_cast<float>(share / ids.Weights(200))},
      {.temperature = temperature,
       .top_k = static_cast<int32_t>(more),
       .top_p = static_cast<float>(share / ids.Weights(more))}};
  const double gap = ids.Weight(kept - 1) - ids.Weight(kept);
  if (gap > 1e-6) {
    ways.push_back(
        {.temperature = temperature, .min_p = static_cast<float>(ids.Weight(kept) + gap / 2)});
  }
  return ways;
}

std::vector<KeptIds> MakeKeptIds() {
  Rng rng(92);
  const auto normal = Normal(rng, 200);
  auto steps = normal;  // with ties
  for (float& x : steps) x = std::round(x);
  return {{normal, 3}, {normal, 1000}, {steps, 3}};
}

TEST_P(SampleTest, TheLastIdKeptIsKeptAndTheNextOneIsNot) {
  static const auto& rows_of_ids = *new std::vector<KeptIds>(MakeKeptIds());
  for (const KeptIds& ids : rows_of_ids) {
    std::vector<RowParams> rows;
    std::vector<float> logits;
    std::vector<int32_t> expected;
    for (const size_t kept : {1, 3, 60, 199}) {
      for (RowParams params : WaysToKeep(ids, kept)) {
        for (const size_t first : {kept - 1, kept}) {
          params.seed = 1;
          params.token_index = ids.KeyFor(first);
          rows.push_back(params);
          logits.insert(logits.end(), ids.logits().begin(), ids.logits().end());
          expected.push_back(ids.Best(kept, params.token_index));
        }
      }
    }
    EXPECT_EQ(Sample(*device_, logits, rows, 200), expected);
  }
}

TEST_P(SampleTest, NoRowsAreNoWork) { EXPECT_TRUE(Sample(*device_, {}, {}, 5).empty()); }

INSTANTIATE_TEST_SUITE_P(Devices, SampleTest, testing::ValuesIn(AllDevicesAndShim()));

using LongRowTest = SampleTest;

// `draws` rows of the same logits and parameters.
void ExpectTheReferencesIds(Device& device,
                            const std::vector<float>& row,
                            RowParams params,
                            uint32_t draws,
                            int64_t num_tokens,
                            const char* name) {
  std::vector<RowParams> rows;
  std::vector<float> logits;
  for (uint32_t i = 0; i < draws; ++i) {
    params.token_index = i;
    rows.push_back(params);
    logits.insert(logits.end(), row.begin(), row.end());
  }
  EXPECT_EQ(Sample(device, logits, rows, num_tokens),
            Sample(*MakeDevice("reference"), logits, rows, num_tokens))
      << name << ", " << row.size() << " ids";
}

// Rows whose cut lies where it is hard to find, for filters that keep few and many.
TEST_P(LongRowTest, KeepsWhatTheReferenceKeepsOfHardRows) {
  Rng rng(94);
  constexpr int64_t kVocabulary = 17003;  // more than a short list takes, and not aligned
  constexpr int64_t kTokens = 17001;
  const std::vector<float> equal(kVocabulary, -3.5f);
  const auto normal = Normal(rng, kVocabulary, 2.0f);
  auto masked = normal;
  for (size_t id = 0; id < masked.size(); ++id)
    masked[id] = id % 100 == 7 ? masked[id] : -kInfinity;
  auto steps = normal;  // many ties
  for (float& x : steps) x = std::round(2 * x) / 2;
  auto zeros = normal;  // 0 and -0 are the same logit
  for (size_t id = 0; id < zeros.size(); ++id) zeros[id] = id % 2 == 0 ? 0.0f : -0.0f;
  const struct {
    const char* name;
    const std::vector<float>& logits;
    RowParams params;
  } cases[] = {
      {"equal, top_k", equal, {.top_k = 50, .seed = 1}},
      {"equal, top_p", equal, {.top_p = 0.25f, .seed = 2}},
      {"equal, both", equal, {.top_k = 300, .top_p = 0.5f, .seed = 3}},
      {"equal, min_p", equal, {.min_p = 1.0f, .seed = 4}},
      {"top_k 1", normal, {.top_k = 1, .seed = 5}},
      {"top_k of all", normal, {.top_k = kTokens, .seed = 6}},
      {"top_k of all but one", normal, {.top_k = kTokens - 1, .seed = 7}},
      {"most of the weight", normal, {.temperature = 3.0f, .top_p = 0.999f, .seed = 8}},
      {"next to no weight", normal, {.top_p = 1e-9f, .seed = 9}},
      {"min_p of many", normal, {.temperature = 2.0f, .min_p = 1e-3f, .seed = 10}},
      {"hot", normal, {.temperature = 1e30f, .top_k = 9000, .top_p = 0.5f, .seed = 11}},
      {"cold", normal, {.temperature = 1e-30f, .top_k = 40, .top_p = 0.9f, .seed = 12}},
      {"masked, top_k", masked, {.top_k = 20, .seed = 13}},
      {"masked, top_k beyond the numbers", masked, {.top_k = 1000, .top_p = 0.9f, .seed = 14}},
      {"masked, top_p", masked, {.top_p = 0.7f, .min_p = 0.01f, .seed = 15}},
      {"ties, top_k", steps, {.temperature = 4.0f, .top_k = 5000, .seed = 16}},
      {"ties, all filters",
       steps,
       {.temperature = 2.0f, .top_k = 12000, .top_p = 0.6f, .min_p = 0.002f, .seed = 17}},
      {"zeros of both signs", zeros, {.top_k = 100, .seed = 18}}};
  const uint32_t draws = GetParam() == "cuda_shim" ? 1 : 3;
  for (const auto& test : cases) {
    ExpectTheReferencesIds(*device_, test.logits, test.params, draws, kTokens, test.name);
  }
}

TEST_P(LongRowTest, KeepsWhatTheReferenceKeepsOfALargeVocabulary) {
  Rng rng(96);
  constexpr int64_t kVocabulary = 248320;
  const auto logits = Normal(rng, kVocabulary, 3.0f);
  for (const RowParams& params :
       {RowParams{.seed = 1}, RowParams{.temperature = 0.7f, .top_k = 20, .top_p = 0.8f, .seed = 2},
        RowParams{.top_p = 0.95f, .seed = 3}}) {
    ExpectTheReferencesIds(*device_, logits, params, 1, kVocabulary, "large");
  }
}

TEST_P(LongRowTest, FewerRowsNeedNoMoreScratch) {
  Session s(*device_);
  Rng rng(98);
  for (const size_t rows : {9, 4, 1, 0}) {
    const std::vector<RowParams> params(rows, RowParams{.top_k = 7, .top_p = 0.9f});
    const SampleParams on_device = PutParams(s, params);
    const auto count = static_cast<int64_t>(rows);
    s.ops().Sample({.logits = s.Put(Normal(rng, count * 9000), {count, 9000}),
                    .num_tokens = 9000,
                    .params = &on_device,
                    .id = s.NewI32({count})},
                   s.arena());
    ASSERT_EQ(s.Get<int32_t>(on_device.top_k).size(), rows);  // waits
    if (!s.arena().frozen()) s.arena().Freeze();              // from here more is a failed check
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, LongRowTest, testing::ValuesIn(DevicesAndShim()));

}  // namespace
}  // namespace deltaserve
