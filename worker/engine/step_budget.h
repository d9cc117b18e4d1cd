#pragma once

// StepBudget: how many prompt tokens a step may take, and how long it will last, from how long
// others took.

#include <cstdint>

#include "absl/time/time.h"

namespace deltaserve {

// The fastest that was measured, so that what is foretold from it is never too long; zero where it
// is not known. A mean would not do: after one slow step it could refuse whoever is in a hurry, and
// while nobody runs nothing corrects it.
struct Speed {
  absl::Duration prompt_token;  // of each, in the step where they took least
  absl::Duration decode_step;   // a step without prompt tokens
};

// Engine thread of rank 0. Pure: durations are arguments.
class StepBudget {
 public:
  struct Options {
    int64_t fixed = 0;  // tokens; 0: measured
    int64_t cap = 0;    // multiple of 64; the most that measuring may give
    absl::Duration target;
  };

  // `probe`: time of a step of 64 prompt tokens, zero where not known.
  StepBudget(const Options& options, absl::Duration probe);

  // Prompt tokens for the next step: `fixed`, or a multiple of 64 within [64, cap] by which a step
  // stays within `target`.
  int64_t tokens() const;

  absl::Duration Predict(int64_t prefill_rows, int64_t decode_rows) const;
  void Record(int64_t prefill_rows, int64_t decode_rows, absl::Duration took);

  Speed speed() const {
    return {.prompt_token = absl::Seconds(fastest_prefill_),
            .decode_step = absl::Seconds(fastest_decode_)};
  }

  // Throughput over the last seconds of work; 0 before any.
  double decode_tokens_per_s() const { return decode_rate_.PerSecond(); }
  double prefill_tokens_per_s() const { return prefill_rate_.PerSecond(); }

 private:
  // Tokens over seconds, both fading with the seconds of work that came after them.
  struct Rate {
    double tokens = 0;
    double seconds = 0;
    void Add(double more_tokens, double more_seconds);
    double PerSecond() const { return seconds > 0 ? tokens / seconds : 0; }
  };

  const Options options_;
  double decode_seconds_ = 0;       // of a step without prompt tokens
  double seconds_per_prefill_ = 0;  // of a prompt token; 0: not known
  double fastest_decode_ = 0;       // the least of the same two
  double fastest_prefill_ = 0;
  Rate decode_rate_, prefill_rate_;
};

}  // namespace deltaserve
