// What deltaserve-bench_serve draws and reports.

#include <algorithm>
#include <fstream>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/bench_serve/report.h"
#include "tools/bench_serve/workload.h"

namespace deltaserve::bench {
namespace {

using ::testing::HasSubstr;

TEST(LengthTest, DrawsWhatItSays) {
  std::mt19937_64 random(1);
  std::set<uint32_t> drawn;
  for (int i = 0; i < 200; ++i) drawn.insert(Length::Parse("--x", "5..8")->Draw(random));
  EXPECT_EQ(drawn, (std::set<uint32_t>{5, 6, 7, 8}));
  EXPECT_EQ(Length::Parse("--x", "7")->Draw(random), 7u);
  double sum = 0;
  for (int i = 0; i < 20000; ++i) sum += Length::Parse("--x", "exp:100")->Draw(random);
  EXPECT_NEAR(sum / 20000, 99.5, 3);  // rounded down: half a token less
  for (const char* bad : {"", "0", "5..", "8..5", "exp:", "exp:0.5", "-3", "1..99999999", "x"}) {
    EXPECT_THAT(std::string(Length::Parse("--x", bad).status().message()), HasSubstr("--x is"))
        << bad;
  }
}

TEST(ArrivalsTest, ArePoissonAndTheSameForOneSeed) {
  const Shape shape{.prompt = *Length::Parse("", "1..50"), .output = *Length::Parse("", "9")};
  const auto arrivals = DrawArrivals(shape, 4, 20000, 3);
  EXPECT_NEAR(arrivals.back().seconds, 5000, 150);
  double squares = 0;
  for (size_t i = 1; i < arrivals.size(); ++i) {
    const double gap = arrivals[i].seconds - arrivals[i - 1].seconds;
    squares += gap * gap / 20000;
  }
  EXPECT_NEAR(squares, 2.0 / 16, 0.01);  // of an exponential gap: twice the mean, squared
  const auto again = DrawArrivals(shape, 4, 20000, 3);
  EXPECT_EQ(again.back().seconds, arrivals.back().seconds);
  EXPECT_EQ(again[77].prompt_tokens, arrivals[77].prompt_tokens);
}

TEST(PromptsTest, OfAGroupBeginAlikeAndOthersDiffer) {
  std::vector<uint32_t> ids(5000);
  for (uint32_t i = 0; i < ids.size(); ++i) ids[i] = i;
  const Prompts prompts(ids, 1);
  const auto a = prompts.Of({.prompt_tokens = 100, .group = "g"}, 0);
  const auto b = prompts.Of({.prompt_tokens = 200, .group = "g"}, 1);
  const auto c = prompts.Of({.prompt_tokens = 100, .group = "h"}, 0);
  ASSERT_EQ(a.size(), 100u);
  ASSERT_EQ(b.size(), 200u);
  EXPECT_TRUE(std::equal(a.begin(), a.begin() + 50, b.begin()));
  EXPECT_FALSE(std::equal(a.begin() + 50, a.end(), b.begin() + 50));
  EXPECT_FALSE(std::equal(a.begin(), a.begin() + 50, c.begin()));
  EXPECT_NE(prompts.Of({.prompt_tokens = 40}, 0), prompts.Of({.prompt_tokens = 40}, 1));
}

TEST(TraceTest, ReadsLinesAndNamesTheBadOne) {
  const std::string path = testing::TempDir() + "/trace.jsonl";
  const auto read = [&](const std::string& text) {
    std::ofstream(path) << text;
    return ReadTrace(path);
  };
  const std::string good = R"({"arrival": 0.5, "prompt_tokens": 3, "output_tokens": 4})";
  const auto trace = read(good + "\n{\"arrival\": 1,\n");
  EXPECT_THAT(std::string(trace.status().message()), HasSubstr("line 2"));
  const auto two = read(
      good + "\n\n" + R"({"arrival": 0.5, "prompt_tokens": 9, "output_tokens": 8, "group": "g"})");
  ASSERT_TRUE(two.ok()) << two.status();
  EXPECT_EQ((*two)[1].group, "g");
  EXPECT_EQ((*two)[1].prompt_tokens, 9u);
  for (const auto& [line, what] :
       {std::pair("{}", "arrival"), std::pair("[]", "no JSON object"),
        std::pair(R"({"arrival": 0.1})", "from 0.5 on"),
        std::pair(R"({"arrival": 1, "prompt_tokens": 0})", "prompt_tokens"),
        std::pair(R"({"arrival": 1, "prompt_tokens": 1})", "output_tokens")}) {
    EXPECT_THAT(std::string(read(good + "\n" + line).status().message()), HasSubstr(what)) << line;
  }
  EXPECT_THAT(std::string(read("").status().message()), HasSubstr("no request"));
}

Outcome Answered(double begin, double first, std::vector<double> gaps) {
  Outcome outcome{.first = first, .total = first, .begin = begin, .gaps = std::move(gaps)};
  for (const double gap : outcome.gaps) outcome.total += gap;
  outcome.end = begin + outcome.total;
  outcome.prompt_tokens = 10;
  outcome.output_tokens = static_cast<uint32_t>(outcome.gaps.size()) + 1;
  return outcome;
}

TEST(ReportTest, CountsRatesGoodputAndErrors) {
  Outcome failed{.error = "ERROR_CODE_QUEUE_FULL", .begin = 1, .end = 1.5};
  const std::vector<Outcome> outcomes = {Answered(1, 0.5, {0.1, 0.3}), Answered(2, 2, {0.5, 0.5}),
                                         Answered(3, 0.5, {1, 1}), failed};
  const Report report = Summarize("x", 2, outcomes, {.first = 1, .gap = 0.6});
  EXPECT_EQ(report.answered, 3u);
  EXPECT_EQ(report.requests, 4u);
  EXPECT_DOUBLE_EQ(report.seconds, 4.5);  // from 1 to 3 + 2.5
  EXPECT_DOUBLE_EQ(report.request_rate, 3 / 4.5);
  EXPECT_DOUBLE_EQ(report.output_rate, 9 / 4.5);
  EXPECT_DOUBLE_EQ(report.prompt_rate, 30 / 4.5);
  EXPECT_DOUBLE_EQ(report.good_rate, 1 / 4.5);  // the second is late, the third slow
  EXPECT_EQ(report.errors.at("ERROR_CODE_QUEUE_FULL"), 1u);
  EXPECT_DOUBLE_EQ(report.gap.p50, 0.5);
  EXPECT_DOUBLE_EQ(report.gap.most, 1);
  EXPECT_THAT(ReportTable({report}), HasSubstr("1 failed: ERROR_CODE_QUEUE_FULL"));
  EXPECT_EQ(ReportJson({report})[0]["answered"], 3);
  EXPECT_THAT(ReportPlot({report}, "requests a second"), HasSubstr("</svg>"));
}

TEST(ReportTest, TellsTheTimeBetweenTokensBesideLongPrompts) {
  std::vector<Outcome> outcomes = {
      Answered(0, 1, {0.5, 0.75, 0.8, 0.25, 4, 0.1}),  // of these the second to fourth lie within
      Answered(1.5, 2.0, {0.125}),                     // the long prompt: 1.5 to 3.5
      Answered(2, 1, {0.1, 0.1})};                     // 3.0 to 3.2
  outcomes[1].prompt_tokens = 2048;
  const Report report = Summarize("x", 1, outcomes, {}, 2048);
  EXPECT_EQ(report.num_beside, 5u);
  EXPECT_DOUBLE_EQ(report.beside.p50, 0.25);
  EXPECT_DOUBLE_EQ(report.beside.most, 0.8);
  EXPECT_THAT(ReportTable({report}), HasSubstr("beside long prompts: 5 times"));
  EXPECT_EQ(Summarize("x", 1, outcomes, {}, 2049).num_beside, 0u);
  EXPECT_EQ(Summarize("x", 1, outcomes, {}).num_beside, 0u);
}

TEST(ReportTest, PercentilesAreOfTheValues) {
  std::vector<double> values;
  for (int i = 100; i > 0; --i) values.push_back(i);
  const Percentiles percentiles = PercentilesOf(values);
  EXPECT_EQ(percentiles.p50, 50);
  EXPECT_EQ(percentiles.p90, 90);
  EXPECT_EQ(percentiles.p99, 99);
  EXPECT_EQ(percentiles.most, 100);
  EXPECT_EQ(PercentilesOf({7}).p99, 7);
  EXPECT_EQ(PercentilesOf({}).mean, 0);
}

}  // namespace
}  // namespace deltaserve::bench
