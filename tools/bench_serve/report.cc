#include "tools/bench_serve/report.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace deltaserve::bench {
namespace {

using Json = nlohmann::ordered_json;

Json ToJson(const Percentiles& values) {
  return {{"mean", values.mean},
          {"p50", values.p50},
          {"p90", values.p90},
          {"p99", values.p99},
          {"max", values.most}};
}

bool IsGood(const Outcome& outcome, const Objective& objective) {
  double sum = 0;
  for (const double gap : outcome.gaps) sum += gap;
  const double mean = outcome.gaps.empty() ? 0 : sum / static_cast<double>(outcome.gaps.size());
  return (objective.first == 0 || outcome.first <= objective.first) &&
         (objective.gap == 0 || mean <= objective.gap);
}

// Gaps that lie within the time that another request's long prompt took.
std::vector<double> GapsBeside(const std::vector<Outcome>& outcomes, uint32_t long_prompt) {
  std::vector<double> gaps;
  for (const Outcome& outcome : outcomes) {
    double end = outcome.begin + outcome.first;
    for (const double gap : outcome.gaps) {
      end += gap;
      const bool beside = std::any_of(outcomes.begin(), outcomes.end(), [&](const Outcome& other) {
        return &other != &outcome && other.prompt_tokens >= long_prompt &&
               other.begin <= end - gap && end <= other.begin + other.first;
      });
      if (beside) gaps.push_back(gap);
    }
  }
  return gaps;
}

}  // namespace

Percentiles PercentilesOf(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    const double rank = std::ceil(share * static_cast<double>(values.size()));
    return values[static_cast<size_t>(std::max(rank, 1.0)) - 1];
  };
  double sum = 0;
  for (const double value : values) sum += value;
  return {.mean = sum / static_cast<double>(values.size()),
          .p50 = at(0.5),
          .p90 = at(0.9),
          .p99 = at(0.99),
          .most = values.back()};
}

Report Summarize(const std::string& name,
                 double offered,
                 const std::vector<Outcome>& outcomes,
                 const Objective& objective,
                 uint32_t long_prompt) {
  Report report{.name = name, .offered = offered, .requests = outcomes.size()};
  std::vector<double> first, gaps, total;
  double begin = 1e300, prompt = 0, output = 0, good = 0;
  for (const Outcome& outcome : outcomes) {
    begin = std::min(begin, outcome.begin);
    report.seconds = std::max(report.seconds, outcome.end);
    if (!outcome.error.empty()) {
      ++report.errors[outcome.error];
      continue;
    }
    ++report.answered;
    first.push_back(outcome.first);
    total.push_back(outcome.total);
    gaps.insert(gaps.end(), outcome.gaps.begin(), outcome.gaps.end());
    prompt += outcome.prompt_tokens;
    output += outcome.output_tokens;
    good += IsGood(outcome, objective) ? 1 : 0;
  }
  report.seconds = std::max(report.seconds - (outcomes.empty() ? 0 : begin), 1e-9);
  report.request_rate = static_cast<double>(report.answered) / report.seconds;
  report.prompt_rate = prompt / report.seconds;
  report.output_rate = output / report.seconds;
  report.good_rate = good / report.seconds;
  report.first = PercentilesOf(std::move(first));
  report.gap = PercentilesOf(std::move(gaps));
  report.total = PercentilesOf(std::move(total));
  if (long_prompt > 0) {
    std::vector<double> beside = GapsBeside(outcomes, long_prompt);
    report.num_beside = beside.size();
    report.beside = PercentilesOf(std::move(beside));
  }
  return report;
}

std::string ReportTable(const std::vector<Report>& reports) {
  std::string text =
      absl::StrFormat("%-14s %9s %8s %8s %10s %10s %28s %28s %20s\n", "load", "answered", "req/s",
                      "good/s", "prompt t/s", "output t/s", "first token ms p50/p90/p99",
                      "between tokens ms p50/90/99", "whole s p50/p99");
  for (const Report& report : reports) {
    const auto three = [](const Percentiles& p) {
      return absl::StrFormat("%.1f / %.1f / %.1f", 1e3 * p.p50, 1e3 * p.p90, 1e3 * p.p99);
    };
    absl::StrAppendFormat(&text, "%-14s %9s %8.2f %8.2f %10.1f %10.1f %28s %28s %20s\n",
                          report.name, absl::StrCat(report.answered, "/", report.requests),
                          report.request_rate, report.good_rate, report.prompt_rate,
                          report.output_rate, three(report.first), three(report.gap),
                          absl::StrFormat("%.2f / %.2f", report.total.p50, report.total.p99));
    if (report.num_beside > 0) {
      absl::StrAppendFormat(&text, "  beside long prompts: %d times between tokens, ms %s\n",
                            report.num_beside, three(report.beside));
    }
    for (const auto& [error, count] : report.errors) {
      absl::StrAppendFormat(&text, "  %d failed: %s\n", count, error);
    }
  }
  return text;
}

Json ReportJson(const std::vector<Report>& reports) {
  Json all = Json::array();
  for (const Report& report : reports) {
    Json errors = Json::object();
    for (const auto& [error, count] : report.errors) errors[error] = count;
    all.push_back({{"load", report.name},
                   {"offered", report.offered},
                   {"requests", report.requests},
                   {"answered", report.answered},
                   {"seconds", report.seconds},
                   {"requests_per_second", report.request_rate},
                   {"good_requests_per_second", report.good_rate},
                   {"prompt_tokens_per_second", report.prompt_rate},
                   {"output_tokens_per_second", report.output_rate},
                   {"time_to_first_token_seconds", ToJson(report.first)},
                   {"inter_token_seconds", ToJson(report.gap)},
                   {"inter_token_beside_long_prompts_seconds", ToJson(report.beside)},
                   {"end_to_end_seconds", ToJson(report.total)},
                   {"errors", std::move(errors)}});
  }
  return all;
}

}  // namespace deltaserve::bench
