#pragma once

// TokenScorer: log-probabilities of tokens in whole rows of logits, as TokenLogProbs on the host
// once the device has done the step.

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "kernels/tensor/arena.h"
#include "worker/engine/request.h"
#include "worker/engine/step_memory.h"

namespace deltaserve {

// Engine thread of rank 0. Owner: Sampler.
class TokenScorer {
 public:
  // `num_tokens`: ids at or above have no token. Device and memory outlive this.
  TokenScorer(Device& device, StepMemory& memory, int64_t num_tokens)
      : device_(device), memory_(memory), num_tokens_(num_tokens) {}

  // What `rows` take of a step's memory, in calls of `rows_a_call`.
  static StepMemory::Sizes MemoryOf(int64_t rows, int64_t rows_a_call);

  // What is wanted of a row.
  struct Wanted {
    int64_t to = -1;  // where Finish() puts it, negative: nothing is
    int num_top = 0;
    std::span<const int32_t> named = {};  // TokenLogProb::top has these too; distinct
  };

  // What LogProbs gives of rows: views of StepMemory that are filled when the step is done.
  struct Started {
    struct Row {
      int64_t to = -1;
      int num_top = 0;
    };
    std::vector<Row> rows;
    int64_t num_top = 0;
    std::vector<int32_t> named_begin, named_id;
    std::span<const int32_t> id, rank, top_id;
    std::span<const float> logprob, top_logprob, named_logprob;
  };

  // Enqueues the log-softmax over real ids of `logits`, f32 [rows, vocabulary rows]: of ids,
  // i32 [rows], with their alternatives. Scratch comes from `arena`, as much as rows and
  // alternatives need, however many ids are named. Errors as of StepMemory::ToDevice().
  absl::StatusOr<Started> Start(TensorView logits,
                                TensorView ids,
                                std::span<const Wanted> wanted,
                                Arena& arena) const;
  // Once the device has done that: to (*out)[Wanted::to].
  static void Finish(const Started& started, std::vector<TokenLogProb>* out);

 private:
  Device& device_;
  StepMemory& memory_;
  const int64_t num_tokens_;
};

}  // namespace deltaserve
