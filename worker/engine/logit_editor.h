#pragma once

// LogitEditor: penalties, biases and masks of requests, put on whole rows of logits before they are
// sampled.

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "kernels/device.h"
#include "kernels/tensor/arena.h"
#include "worker/engine/logit_rules.h"

namespace deltaserve {

// Engine thread of rank 0. Owner: Sampler.
class LogitEditor {
 public:
  // `num_tokens`: ids at or above have no token.
  LogitEditor(Device& device, int64_t num_tokens) : device_(device), num_tokens_(num_tokens) {}

  // Edits f32 [rows, vocabulary rows] in place: row i as histories[i] has it, null: not at all.
  // Scratch comes from `arena`, the same for the same number of rows.
  absl::Status Edit(std::span<const LogitHistory* const> histories,
                    TensorView logits,
                    Arena& arena) const;

 private:
  // Entries that travel to the device together.
  static constexpr int64_t kEntries = 8192;

  absl::Status Penalize(std::span<const LogitHistory* const> histories,
                        TensorView logits,
                        Arena& arena) const;
  absl::Status Mask(std::span<const LogitHistory* const> histories,
                    TensorView logits,
                    Arena& arena) const;

  Device& device_;
  const int64_t num_tokens_;
};

}  // namespace deltaserve
