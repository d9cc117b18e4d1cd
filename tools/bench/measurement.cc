#include "tools/bench/measurement.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

namespace deltaserve::bench {
namespace {

using Json = nlohmann::ordered_json;

double Share(const Measurement& m, double amount, double Limits::*rate) {
  std::vector<double> shares;
  for (size_t i = 0; i < m.seconds.size(); ++i) {
    const double limit = m.limits.at(i).*rate;
    shares.push_back(limit > 0 ? amount / limit / m.seconds[i] : 0);
  }
  return MedianOf(std::move(shares));
}

// "-" in place of what there is not.
std::string Cell(double value, int decimals) {
  return value > 0 ? absl::StrFormat("%.*f", decimals, value) : "-";
}

std::string Percent(double share) {
  return share > 0 ? absl::StrFormat("%.1f %%", 100 * share) : "-";
}

Json ToJson(const Measurement& m) {
  const double seconds = m.median();
  const Limits limits = MedianOf(m.limits);
  return {{"what", m.what},
          {"tokens", m.tokens},
          {"tokens_per_second", m.tokens / seconds},
          {"calls", m.calls},
          {"seconds", seconds},
          {"runs_seconds", m.seconds},
          {"bytes", m.cost.bytes},
          {"flops", m.cost.flops},
          {"bytes_per_second", m.cost.bytes / seconds},
          {"flops_per_second", m.cost.flops / seconds},
          {"limit_read_bytes_per_second", limits.read_bytes},
          {"limit_fma_flops_per_second", limits.fma_flops},
          {"limit_int8_operations_per_second", limits.int8_operations},
          {"share_of_read", m.share_of_read()},
          {"share_of_fma", m.share_of_fma()},
          {"share_of_int8", m.share_of_int8()},
          {"share_of_limit", m.share_of_limit()}};
}

}  // namespace

double Measurement::share_of_read() const { return Share(*this, cost.bytes, &Limits::read_bytes); }

double Measurement::share_of_fma() const { return Share(*this, cost.flops, &Limits::fma_flops); }

double Measurement::share_of_int8() const {
  return Share(*this, cost.flops, &Limits::int8_operations);
}

double Measurement::share_of_limit() const { return std::max(share_of_read(), share_of_fma()); }

std::string MeasurementTable(const std::vector<Measurement>& all) {
  constexpr char kLine[] = "%-*s %10s %10s %8s %9s %8s %9s %8s %8s %8s %9s\n";
  size_t width = 4;
  for (const Measurement& m : all) width = std::max(width, m.what.size());
  const int first = static_cast<int>(width);
  std::string text = absl::StrFormat(kLine, first, "what", "tokens/s", "ms", "GB", "GFLOP", "GB/s",
                                     "GFLOP/s", "of read", "of FMA", "of int8", "of limit");
  for (const Measurement& m : all) {
    const double seconds = m.median();
    absl::StrAppendFormat(&text, kLine, first, m.what, Cell(m.tokens / seconds, 1),
                          absl::StrFormat("%.3f", 1e3 * seconds), Cell(m.cost.bytes / 1e9, 3),
                          Cell(m.cost.flops / 1e9, 3), Cell(m.cost.bytes / seconds / 1e9, 2),
                          Cell(m.cost.flops / seconds / 1e9, 1), Percent(m.share_of_read()),
                          Percent(m.share_of_fma()), Percent(m.share_of_int8()),
                          Percent(m.share_of_limit()));
  }
  return text;
}

std::string MeasurementJson(const std::vector<Fact>& facts,
                            const Limits& limits,
                            const std::vector<Measurement>& all) {
  Json json = Json::object();
  for (const Fact& fact : facts) {
    std::visit([&](const auto& value) { json[fact.name] = value; }, fact.value);
  }
  json["limits"] = {{"read_bytes_per_second", limits.read_bytes},
                    {"fma_flops_per_second", limits.fma_flops},
                    {"fma", limits.fma_name()},
                    {"int8_operations_per_second", limits.int8_operations},
                    {"int8", limits.int8_name()}};
  Json& list = json["measurements"] = Json::array();
  for (const Measurement& m : all) list.push_back(ToJson(m));
  return json.dump(2) + "\n";
}

}  // namespace deltaserve::bench
