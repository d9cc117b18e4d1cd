// LogProbs.

#include <algorithm>
#include <cmath>
#include <limits>

#include "gmock/gmock.h"
#include "tests/kernels/op_test.h"

namespace deltaserve {
namespace {

using testing::ElementsAre;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// One f32 exp a term, summed in double, and one subtraction of values up to 20.
constexpr double kLogProbTolerance = 2e-6;

struct LogProbResult {
  std::vector<float> logprob;
  std::vector<int32_t> rank;
  std::vector<int32_t> top_id;
  std::vector<float> top_logprob;
  std::vector<float> named_logprob;
};

// `named`: the ids that each row names; empty for none.
LogProbResult LogProbs(Device& device,
                       const std::vector<float>& logits,
                       const std::vector<int32_t>& ids,
                       int64_t num_tokens,
                       int64_t num_top,
                       const std::vector<std::vector<int32_t>>& named = {}) {
  Session s(device);
  std::vector<int32_t> named_begin(ids.size() + 1), named_id;
  for (size_t row = 0; row < named.size(); ++row) {
    named_id.insert(named_id.end(), named[row].begin(), named[row].end());
    named_begin[row + 1] = static_cast<int32_t>(named_id.size());
  }
  const auto rows = static_cast<int64_t>(ids.size());
  const LogProbsArgs args{
      .logits = s.Put(logits, {rows, static_cast<int64_t>(logits.size()) / rows}),
      .num_tokens = num_tokens,
      .id = s.Put(ids),
      .logprob = s.NewF32({rows}),
      .rank = s.NewI32({rows}),
      .top_id = s.NewI32({rows, num_top}),
      .top_logprob = s.NewF32({rows, num_top}),
      .named_begin = s.Put(named_begin),
      .named_id = s.Put(named_id),
      .named_logprob = s.NewF32({static_cast<int64_t>(named_id.size())})};
  s.ops().LogProbs(args, s.arena());
  return {s.Floats(args.logprob), s.Get<int32_t>(args.rank), s.Get<int32_t>(args.top_id),
          s.Floats(args.top_logprob), s.Floats(args.named_logprob)};
}

class LogProbsTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    device_ = MakeDevice(GetParam());
    if (device_ == nullptr) GTEST_SKIP() << "no " << GetParam();
  }
  std::unique_ptr<Device> device_;
};

TEST_P(LogProbsTest, CountTiesAsLessLikelyAndListThemByLowestId) {
  // Four equal logits and one larger; the sixth is padding.
  const LogProbResult result = LogProbs(*device_, {0, 0, 2, 0, 0, 99}, {3}, 5, 3, {{2, 4}});
  const double log_sum = std::log(4 + std::exp(2.0));
  ExpectClose(result.logprob, {static_cast<float>(-log_sum)}, kLogProbTolerance);
  EXPECT_THAT(result.rank, ElementsAre(2));
  EXPECT_THAT(result.top_id, ElementsAre(2, 0, 1));
  ExpectClose(
      result.top_logprob,
      {static_cast<float>(2 - log_sum), static_cast<float>(-log_sum), static_cast<float>(-log_sum)},
      kLogProbTolerance);
  ExpectClose(result.named_logprob, {static_cast<float>(2 - log_sum), static_cast<float>(-log_sum)},
              kLogProbTolerance);
}

TEST_P(LogProbsTest, AgreeWithTheReference) {
  Rng rng(97);
  for (const int64_t num_top : {0, 1, 20}) {
    const auto logits = Normal(rng, int64_t{9} * 1500, 4.0f);
    const std::vector<int32_t> ids = {0, 1, 1400, 7, 700, 3, 999, 13, 1250};
    const std::vector<std::vector<int32_t>> named = {{5},    {}, {0, 1400, 5}, {}, {},
                                                     {7, 7}, {}, {},           {9}};
    const LogProbResult actual = LogProbs(*device_, logits, ids, 1401, num_top, named);
    const LogProbResult expected =
        LogProbs(*MakeDevice("reference"), logits, ids, 1401, num_top, named);
    ExpectClose(actual.named_logprob, expected.named_logprob, kLogProbTolerance);
    ExpectClose(actual.logprob, expected.logprob, kLogProbTolerance);
    EXPECT_EQ(actual.rank, expected.rank);
    EXPECT_EQ(actual.top_id, expected.top_id);
    ExpectClose(actual.top_logprob, expected.top_logprob, kLogProbTolerance);
  }
}

TEST_P(LogProbsTest, AgreeWithTheReferenceOnALargeVocabulary) {
  Rng rng(101);
  constexpr int64_t kVocabulary = 248320;
  auto logits = Normal(rng, 2 * kVocabulary, 3.0f);
  std::fill(logits.begin() + kVocabulary, logits.end(), 0.25f);  // all alike
  const std::vector<int32_t> ids = {77777, 248319};
  const LogProbResult actual = LogProbs(*device_, logits, ids, kVocabulary, 20);
  const LogProbResult expected = LogProbs(*MakeDevice("reference"), logits, ids, kVocabulary, 20);
  ExpectClose(actual.logprob, expected.logprob, kLogProbTolerance);
  EXPECT_EQ(actual.rank, expected.rank);
  EXPECT_EQ(actual.top_id, expected.top_id);
  ExpectClose(actual.top_logprob, expected.top_logprob, kLogProbTolerance);
}

TEST_P(LogProbsTest, MaskedIdsComeLast) {
  const LogProbResult result =
      LogProbs(*device_, {-kInfinity, -1, -kInfinity, 3, -kInfinity}, {2}, 5, 4);
  EXPECT_THAT(result.rank, ElementsAre(3));
  EXPECT_THAT(result.top_id, ElementsAre(3, 1, 0, 2));
  EXPECT_EQ(result.logprob[0], -kInfinity);
  EXPECT_EQ(result.top_logprob[3], -kInfinity);
}

TEST_P(LogProbsTest, ARowsBitsDoNotDependOnOtherRows) {
  Rng rng(99);
  const auto logits = Normal(rng, int64_t{5} * 1003, 4.0f);
  const std::vector<int32_t> ids = {0, 1000, 5, 6, 7};
  const LogProbResult all = LogProbs(*device_, logits, ids, 1003, 4);
  for (size_t r = 0; r < 5; ++r) {
    const auto row = static_cast<int64_t>(r);
    const LogProbResult one = LogProbs(*device_, RowsOf(logits, 1003, row, 1), {ids[r]}, 1003, 4);
    ExpectSameBits(one.logprob, {all.logprob[r]}, "logprob");
    ExpectSameBits(one.top_logprob, RowsOf(all.top_logprob, 4, row, 1), "top");
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, LogProbsTest, testing::ValuesIn(AllDevicesAndShim()));

}  // namespace
}  // namespace deltaserve
