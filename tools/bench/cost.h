#pragma once

// Cost: what work cannot do without, however it is done; formulas of the ops. Element by element
// work (norms, activations, gates) is not counted. Pure.

#include <cstdint>

namespace deltaserve::bench {

// Doubles, for sums that are divided by rates.
struct Cost {
  double bytes = 0;  // read or written
  double flops = 0;  // a multiplication and an addition are two

  Cost& operator+=(const Cost& other) {
    bytes += other.bytes;
    flops += other.flops;
    return *this;
  }
};

// Of rows . W^T.
inline double LinearFlops(int64_t rows, int64_t out_features, int64_t in_features) {
  return 2.0 * static_cast<double>(rows) * static_cast<double>(out_features * in_features);
}

// Of a causal convolution.
inline double ConvFlops(int64_t rows, int64_t channels, int64_t kernel) {
  return 2.0 * static_cast<double>(rows) * static_cast<double>(channels * kernel);
}

// Of the delta rule token by token: decay, k . S, S += k (x) d, q . S. The chunked rule does more.
inline double DeltaRuleFlops(int64_t rows, int64_t value_heads, int64_t dk, int64_t dv) {
  return 7.0 * static_cast<double>(rows) * static_cast<double>(value_heads * dk * dv);
}

// Of rows at positions first, first + 1, ...; each sees itself and all before it.
inline double AttentionFlops(int64_t rows, int64_t first, int64_t heads, int64_t head_dim) {
  const double seen = static_cast<double>(rows) * static_cast<double>(first) +
                      static_cast<double>(rows) * static_cast<double>(rows + 1) / 2;
  return 4.0 * seen * static_cast<double>(heads * head_dim);
}

}  // namespace deltaserve::bench
