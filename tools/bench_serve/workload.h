#pragma once

// What a load consists of: lengths, arrivals and shared prefixes, drawn from a seed or read from a
// trace.

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace deltaserve::bench {

// One request of a load.
struct Arrival {
  double seconds = 0;  // after the start; of a closed loop unused
  uint32_t prompt_tokens = 1;
  uint32_t output_tokens = 1;
  std::string group = {};  // requests of one group share the beginning of their prompts
};

// How long prompts or outputs are: "N", "A..B" (uniform) or "exp:MEAN" (exponential, at least 1).
class Length {
 public:
  // Errors: InvalidArgument naming `flag` and the forms.
  static absl::StatusOr<Length> Parse(const std::string& flag, const std::string& text);
  uint32_t Draw(std::mt19937_64& random) const;

 private:
  enum class Kind : uint8_t { kUniform, kExponential };
  Kind kind_ = Kind::kUniform;
  uint32_t low_ = 1, high_ = 1;
  double mean_ = 1;
};

struct Shape {
  Length prompt = {}, output = {};
  uint32_t groups = 0;  // 0: no prompt shares anything
};

// `count` requests at `rate` a second, their gaps exponential (Poisson); rate 0: all at 0.
std::vector<Arrival> DrawArrivals(const Shape& shape, double rate, uint32_t count, uint64_t seed);

// Lines {"arrival": seconds, "prompt_tokens": N, "output_tokens": N, "group": "name"}, the last one
// optional; arrivals ascend. Errors name file, line and field.
absl::StatusOr<std::vector<Arrival>> ReadTrace(const std::string& path);

// The token ids of prompts: windows of a text's tokens, another for each request; those of a group
// begin with the same half. Deterministic.
class Prompts {
 public:
  // `ids`: at least one.
  Prompts(std::vector<uint32_t> ids, uint64_t seed) : ids_(std::move(ids)), seed_(seed) {}
  std::vector<uint32_t> Of(const Arrival& arrival, size_t index) const;

 private:
  const std::vector<uint32_t> ids_;
  const uint64_t seed_;
};

}  // namespace deltaserve::bench
