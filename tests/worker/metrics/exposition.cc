#include "tests/worker/metrics/exposition.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <regex>
#include <set>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "kernels/base/status_macros.h"

namespace deltaserve::test {
namespace {

// The forms of lines; compiled once a text.
struct Grammar {
  const std::regex type{
      R"(# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|histogram|summary|untyped))"};
  const std::regex help{R"(# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) (?:[^\\]|\\\\|\\n)*)"};
  const std::regex sample{R"(([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: -?[0-9]+)?)"};
  const std::regex label{R"re(([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\["\\n])*)",?)re"};
};

absl::Status Refuse(const std::string& line, const std::string& problem) {
  return absl::InvalidArgumentError(absl::StrCat(problem, ": ", line));
}

absl::StatusOr<Exposition::Sample> ParseSample(const Grammar& grammar, const std::string& line) {
  std::smatch match;
  if (!std::regex_match(line, match, grammar.sample)) return Refuse(line, "no sample");
  Exposition::Sample sample{.name = match[1], .labels = {}};
  if (!absl::SimpleAtod(match[3].str(), &sample.value)) return Refuse(line, "no number");
  std::string rest = match[2];
  std::smatch part;
  while (std::regex_search(rest, part, grammar.label, std::regex_constants::match_continuous)) {
    if (!sample.labels.emplace(part[1], part[2]).second) return Refuse(line, "a label twice");
    rest = part.suffix();
  }
  if (!rest.empty()) return Refuse(line, "no labels");
  return sample;
}

// The family that a sample belongs to: its own name, or without the suffix of a histogram's parts.
std::string FamilyOf(const std::string& name, const std::map<std::string, std::string>& types) {
  if (types.contains(name)) return name;
  for (const char* suffix : {"_bucket", "_sum", "_count"}) {
    std::string family(absl::StripSuffix(name, suffix));
    const auto found = types.find(family);
    if (family == name || found == types.end()) continue;
    if (found->second == "histogram" || found->second == "summary") return family;
  }
  return "";
}

// Buckets come in ascending order, the last is +Inf.
absl::Status CheckHistograms(const Exposition& all) {
  using Series = std::pair<std::string, std::map<std::string, std::string>>;
  std::map<Series, double> buckets, counts;
  for (const Exposition::Sample& sample : all.samples) {
    const std::string family = FamilyOf(sample.name, all.types);
    if (all.types.at(family) != "histogram") continue;
    if (absl::EndsWith(sample.name, "_count")) counts[{family, sample.labels}] = sample.value;
    if (!absl::EndsWith(sample.name, "_bucket")) continue;
    Series series = {family, sample.labels};
    if (series.second.erase("le") == 0) return Refuse(sample.name, "a bucket without le");
    const auto [last, first] = buckets.emplace(series, sample.value);
    if (sample.value < last->second) return Refuse(sample.name, "a bucket below the one before it");
    last->second = sample.value;
  }
  if (buckets != counts) return absl::InvalidArgumentError("a last bucket is not the count");
  return absl::OkStatus();
}

}  // namespace

double Exposition::Sum(const std::string& name,
                       const std::map<std::string, std::string>& labels) const {
  double sum = 0;
  bool found = false;
  for (const Sample& sample : samples) {
    if (sample.name != name) continue;
    const auto has = [&](const auto& label) {
      const auto mine = sample.labels.find(label.first);
      return mine != sample.labels.end() && mine->second == label.second;
    };
    if (!std::all_of(labels.begin(), labels.end(), has)) continue;
    sum += sample.value;
    found = true;
  }
  return found ? sum : std::numeric_limits<double>::quiet_NaN();
}

absl::StatusOr<Exposition> ParseExposition(const std::string& text) {
  if (!text.empty() && text.back() != '\n') return Refuse(text, "no end of the last line");
  const Grammar grammar;
  Exposition all;
  std::set<std::pair<std::string, std::map<std::string, std::string>>> seen;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (line.empty() || std::regex_match(line, match, grammar.help)) continue;
    if (std::regex_match(line, match, grammar.type)) {
      if (!all.types.emplace(match[1], match[2]).second) return Refuse(line, "a family twice");
      continue;
    }
    if (line[0] == '#') return Refuse(line, "neither HELP nor TYPE");
    DS_ASSIGN_OR_RETURN(Exposition::Sample sample, ParseSample(grammar, line));
    const std::string family = FamilyOf(sample.name, all.types);
    if (family.empty()) return Refuse(line, "a sample of no family");
    if (all.types[family] == "counter" && sample.value < 0) return Refuse(line, "below zero");
    if (!seen.emplace(sample.name, sample.labels).second) return Refuse(line, "a sample twice");
    all.samples.push_back(std::move(sample));
  }
  DS_RETURN_IF_ERROR(CheckHistograms(all));
  return all;
}

}  // namespace deltaserve::test
