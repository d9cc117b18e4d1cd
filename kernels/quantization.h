#pragma once

// Weights of fewer bits: what a rank is asked for, and which weights may be changed at all.

namespace deltaserve {

// What becomes of the weights that may be quantised.
enum class Quantization {
  kNone,
  kInt8,  // 8 bits, one scale an output; activations in 8 bits, one scale a row
};

// What a weight must keep.
enum class Precision {
  kExact,        // what small errors of decide much: routers, gates, decays
  kMayQuantize,  // projections, feed-forwards, experts, the head
};

}  // namespace deltaserve
