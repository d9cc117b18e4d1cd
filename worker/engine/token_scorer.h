#pragma once

// TokenScorer: log-probabilities of tokens in whole rows of logits, as TokenLogProbs on the host.

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "kernels/device.h"
#include "kernels/tensor/arena.h"
#include "worker/engine/request.h"

namespace deltaserve {

// Engine thread of rank 0. Owner: Sampler.
class TokenScorer {
 public:
  // `num_tokens`: ids at or above have no token.
  TokenScorer(Device& device, int64_t num_tokens) : device_(device), num_tokens_(num_tokens) {}

  // What is wanted of a row.
  struct Wanted {
    TokenLogProb* out = nullptr;  // null: nothing
    int num_top = 0;
    std::span<const int32_t> named = {};  // TokenLogProb::top has these too; distinct
  };

  // Log-softmax over real ids of `logits`, f32 [rows, vocabulary rows]: of ids, i32 [rows], with
  // their alternatives, to wanted[row].out. Waits for the device. Scratch comes from `arena`, as
  // much as rows and alternatives need, however many ids are named.
  absl::Status Score(TensorView logits,
                     TensorView ids,
                     std::span<const Wanted> wanted,
                     Arena& arena) const;

 private:
  Device& device_;
  const int64_t num_tokens_;
};

}  // namespace deltaserve
