#include "tools/bench_serve/workload.h"

#include <algorithm>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"

namespace deltaserve::bench {
namespace {

using Json = nlohmann::json;

constexpr uint32_t kMostTokens = 1u << 20;

absl::Status BadLine(const std::string& path, size_t line, const std::string& what) {
  return absl::InvalidArgumentError(
      absl::StrCat("--trace ", path, ", line ", line, ": ", what,
                   "; write {\"arrival\": seconds, \"prompt_tokens\": N, \"output_tokens\": N, "
                   "\"group\": \"name\"}"));
}

absl::StatusOr<uint32_t> TokensOf(const Json& line, const char* field) {
  if (line.contains(field) && line[field].is_number_unsigned() && line[field] >= 1 &&
      line[field] <= kMostTokens) {
    return line[field].get<uint32_t>();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(field, " is no whole number from 1 to ", kMostTokens));
}

absl::StatusOr<Arrival> ReadArrival(const std::string& text, double before) {
  const Json line = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!line.is_object()) return absl::InvalidArgumentError("it is no JSON object");
  Arrival arrival;
  if (!line.contains("arrival") || !line["arrival"].is_number() || line["arrival"] < before) {
    return absl::InvalidArgumentError(
        absl::StrCat("arrival is no number of seconds from ", before, " on"));
  }
  arrival.seconds = line["arrival"].get<double>();
  DS_ASSIGN_OR_RETURN(arrival.prompt_tokens, TokensOf(line, "prompt_tokens"));
  DS_ASSIGN_OR_RETURN(arrival.output_tokens, TokensOf(line, "output_tokens"));
  if (line.contains("group")) {
    if (!line["group"].is_string()) return absl::InvalidArgumentError("group is no text");
    arrival.group = line["group"].get<std::string>();
  }
  return arrival;
}

}  // namespace

absl::StatusOr<Length> Length::Parse(const std::string& flag, const std::string& text) {
  Length length;
  const std::vector<std::string> ends = absl::StrSplit(text, absl::MaxSplits("..", 1));
  if (absl::StartsWith(text, "exp:")) {
    length.kind_ = Kind::kExponential;
    if (absl::SimpleAtod(text.substr(4), &length.mean_) && length.mean_ >= 1 &&
        length.mean_ <= kMostTokens) {
      return length;
    }
  } else if (absl::SimpleAtoi(ends.front(), &length.low_) &&
             absl::SimpleAtoi(ends.back(), &length.high_) && length.low_ >= 1 &&
             length.low_ <= length.high_ && length.high_ <= kMostTokens) {
    return length;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      flag, " is ", text, ": use N, A..B (uniform) or exp:MEAN, of 1 to ", kMostTokens, " tokens"));
}

uint32_t Length::Draw(std::mt19937_64& random) const {
  if (kind_ == Kind::kUniform) {
    return std::uniform_int_distribution<uint32_t>(low_, high_)(random);
  }
  const double drawn = std::exponential_distribution<double>(1 / mean_)(random);
  return static_cast<uint32_t>(std::clamp(drawn, 1.0, static_cast<double>(kMostTokens)));
}

std::vector<Arrival> DrawArrivals(const Shape& shape, double rate, uint32_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<Arrival> arrivals;
  double seconds = 0;
  for (uint32_t i = 0; i < count; ++i) {
    if (rate > 0) seconds += std::exponential_distribution<double>(rate)(random);
    arrivals.push_back({.seconds = seconds,
                        .prompt_tokens = shape.prompt.Draw(random),
                        .output_tokens = shape.output.Draw(random)});
    if (shape.groups > 0) arrivals.back().group = absl::StrCat(random() % shape.groups);
  }
  return arrivals;
}

absl::StatusOr<std::vector<Arrival>> ReadTrace(const std::string& path) {
  std::ifstream file(path);
  std::vector<Arrival> arrivals;
  size_t number = 0;
  for (std::string text; std::getline(file, text);) {
    ++number;
    if (text.empty()) continue;
    const double before = arrivals.empty() ? 0 : arrivals.back().seconds;
    const absl::StatusOr<Arrival> arrival = ReadArrival(text, before);
    if (!arrival.ok()) return BadLine(path, number, std::string(arrival.status().message()));
    arrivals.push_back(*arrival);
  }
  if (!arrivals.empty()) return arrivals;
  return absl::InvalidArgumentError(
      absl::StrCat("--trace is ", path, ": no request can be read; name a file of JSON lines"));
}

std::vector<uint32_t> Prompts::Of(const Arrival& arrival, size_t index) const {
  std::mt19937_64 own(seed_ * 1000003 + index);
  std::seed_seq name(arrival.group.begin(), arrival.group.end());
  std::mt19937_64 shared(name);
  const size_t prefix = arrival.group.empty() ? 0 : arrival.prompt_tokens / 2;
  std::vector<uint32_t> ids;
  size_t at = 0;
  for (size_t i = 0; i < arrival.prompt_tokens; ++i) {
    // Runs of 16 tokens as they stand in the text.
    if (i % 16 == 0 || i == prefix) at = (i < prefix ? shared : own)();
    ids.push_back(ids_[(at + i) % ids_.size()]);
  }
  return ids;
}

}  // namespace deltaserve::bench
