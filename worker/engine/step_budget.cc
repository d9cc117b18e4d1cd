#include "worker/engine/step_budget.h"

#include <algorithm>
#include <cmath>

#include "kernels/ops.h"

namespace deltaserve {
namespace {

// Weight of the newest step in the estimates.
constexpr double kNewest = 0.25;
// Seconds of work after which what was measured counts 1/e.
constexpr double kMemorySeconds = 5;

void Blend(double sample, double* estimate) {
  *estimate = *estimate == 0 ? sample : *estimate + kNewest * (sample - *estimate);
}

void KeepLeast(double sample, double* least) {
  if (*least == 0 || sample < *least) *least = sample;
}

}  // namespace

StepBudget::StepBudget(const Options& options, absl::Duration probe) : options_(options) {
  seconds_per_prefill_ = absl::ToDoubleSeconds(probe) / static_cast<double>(kBlockTokens);
  fastest_prefill_ = seconds_per_prefill_;
}

int64_t StepBudget::tokens() const {
  if (options_.fixed > 0) return options_.fixed;
  if (seconds_per_prefill_ <= 0) return kBlockTokens;
  const double room = absl::ToDoubleSeconds(options_.target) - decode_seconds_;
  const double blocks = room / seconds_per_prefill_ / static_cast<double>(kBlockTokens);
  const int64_t most = std::max<int64_t>(options_.cap / kBlockTokens, 1);
  return static_cast<int64_t>(std::clamp(blocks, 1.0, static_cast<double>(most))) * kBlockTokens;
}

absl::Duration StepBudget::Predict(int64_t prefill_rows, int64_t decode_rows) const {
  const double seconds = static_cast<double>(prefill_rows) * seconds_per_prefill_ +
                         (decode_rows > 0 ? decode_seconds_ : 0);
  return absl::Seconds(seconds);
}

void StepBudget::Record(int64_t prefill_rows, int64_t decode_rows, absl::Duration took) {
  const double seconds = absl::ToDoubleSeconds(took);
  if (prefill_rows == 0) {
    Blend(seconds, &decode_seconds_);
    KeepLeast(seconds, &fastest_decode_);
  } else {
    // A short step says nothing where no long one was seen: its tokens seem slow.
    if (prefill_rows >= kBlockTokens || fastest_prefill_ > 0) {
      KeepLeast(seconds / static_cast<double>(prefill_rows), &fastest_prefill_);
    }
    const double prefill_seconds = std::max(0.0, seconds - (decode_rows > 0 ? decode_seconds_ : 0));
    const double sample = prefill_seconds / static_cast<double>(prefill_rows);
    // A step of a few tokens lasts as long as it takes to read the weights, and beside decodes
    // takes almost no time of its own: it says at most that tokens are faster than was believed.
    if (prefill_rows >= kBlockTokens || (decode_rows == 0 && sample < seconds_per_prefill_)) {
      Blend(sample, &seconds_per_prefill_);
    }
  }
  decode_rate_.Add(static_cast<double>(decode_rows), seconds);
  prefill_rate_.Add(static_cast<double>(prefill_rows), seconds);
}

void StepBudget::Rate::Add(double more_tokens, double more_seconds) {
  const double keep = std::exp(-more_seconds / kMemorySeconds);
  tokens = tokens * keep + more_tokens;
  seconds = seconds * keep + more_seconds;
}

}  // namespace deltaserve
