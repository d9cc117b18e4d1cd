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
#include "worker/engine/step_memory.h"

namespace deltaserve {

// Engine thread of rank 0. Owner: Sampler.
class LogitEditor {
 public:
  // `num_tokens`: ids at or above have no token. Device and memory outlive this.
  LogitEditor(Device& device, StepMemory& memory, int64_t num_tokens)
      : device_(device), memory_(memory), num_tokens_(num_tokens) {}

  // What a step's uploads should hold for `rows` of `vocab_rows` logits: their masks, and as many
  // ids with a penalty or a bias as most answers have. A step that has more of them waits.
  static size_t UploadBytes(int64_t rows, int64_t vocab_rows);

  // Edits f32 [rows, vocabulary rows] in place: row i as histories[i] has it, null: not at all.
  // Enqueues it: `histories` may change once this returns. Scratch comes from `arena`, the same for
  // the same number of rows. Errors as of StepMemory::ToDevice().
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
  StepMemory& memory_;
  const int64_t num_tokens_;
};

}  // namespace deltaserve
