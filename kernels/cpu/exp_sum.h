#pragma once

// The denominator of a softmax over a vocabulary.

#include <cstdint>

namespace deltaserve::cpu {

// Sum of exp((x[i] - max) / temperature) over [0, n): f32 terms added in double, in one fixed
// order.
double ExpSum(const float* x, int64_t n, float max, float temperature);

}  // namespace deltaserve::cpu
