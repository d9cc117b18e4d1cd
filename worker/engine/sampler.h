#pragma once

// Sampler: the scored rows of a step to token ids, on every rank.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "kernels/ops.h"
#include "kernels/tensor/arena.h"
#include "worker/comm/communicator.h"
#include "worker/engine/logit_editor.h"
#include "worker/engine/step_memory.h"
#include "worker/engine/step_plan.h"
#include "worker/engine/step_result.h"
#include "worker/engine/token_scorer.h"

namespace deltaserve {

// Engine thread. Every rank makes the same calls. Owner: Executor.
//
// A row's path depends on its own request alone, and both paths choose the same token where both
// could be taken: so do not batch nor ranks. kMerged rows: each rank's best (value, id) travels
// through one AllGather and is merged in rank order, ties to the lowest id. Other rows' logits are
// gathered to rank 0, at most 32 rows at a time, and sampled there; ids come back by Broadcast.
// Rows that score a prompt's tokens are gathered in the same way and leave rank 0 as
// log-probabilities.
class Sampler {
 public:
  struct Sizes {
    int64_t vocab_rows = 0;   // of the model, without the padding of the last rank
    int64_t num_tokens = 0;   // ids at or above are never chosen
    int64_t local_rows = 0;   // of the vocabulary on each rank, padding included
    int64_t local_begin = 0;  // id of this rank's first
    int64_t slots = 0;        // rows that a step samples at most
    int64_t scored_rows = 0;  // prompt tokens that it scores at most
    int64_t logit_rows = 0;   // rows of logits that it gives at most
  };

  struct Inputs {
    const ScorePlan* score = nullptr;
    TensorView logits;           // f32 [scored rows, local_rows]
    SampleParams params;         // one entry a sampled row, as ScorePlan::order has them
    TensorView sampled_scored;   // i32 [sampled] in that order: index into the rows of logits
    TensorView sampled_slot;     // i32 [sampled], the same
    TensorView forced_ids;       // i32 [sampled], the same: `forced`
    TensorView slot_last_token;  // i32 [slots], which gets what is sampled
    TensorView logits_scored;    // i32 [logits], the same
    TensorView prompt_scored;    // i32 [prompt], the same
    TensorView prompt_ids;       // i32 [prompt]
    // The id of each row of ScorePlan::sampled where it is not to be chosen, else -1.
    std::vector<int32_t> forced;
    // The rules of each row of ScorePlan::sampled, or null.
    std::vector<const LogitHistory*> histories;
    // The ids whose log-probabilities each row of ScorePlan::sampled wants besides.
    std::vector<std::span<const int32_t>> logprob_ids;
  };

  // Rows that travel together to rank 0.
  static constexpr int64_t kGatherRows = 32;

  // A step that was started: views of pinned memory that are filled when the device has done it,
  // and stay until the next Start() but one.
  struct Started {
    std::span<const int32_t> ids;  // one a sampled row, in the order of ScorePlan::order
    // On rank 0.
    std::vector<TokenScorer::Started> sampled, prompt;
    std::vector<std::span<const float>> logits;  // one a row of ScorePlan::logits
  };

  // Device and communicator outlive it. RESOURCE_EXHAUSTED as of Device::Allocate().
  static absl::StatusOr<std::unique_ptr<Sampler>> Create(Device& device,
                                                         Communicator& comm,
                                                         const Sizes& sizes);

  // Enqueues all of it. Waits for the device only where the rules of a step's requests name more
  // ids than StepMemory has room for.
  absl::StatusOr<Started> Start(const Inputs& inputs, Arena& arena);

  // Once the device has done that. INTERNAL, on every rank, where a row has no finite logit: ends
  // the world.
  absl::StatusOr<StepResult> Finish(const ScorePlan& score, const Started& started) const;

 private:
  Sampler(Device& device,
          Communicator& comm,
          const Sizes& sizes,
          std::unique_ptr<StepMemory> memory);

  // The best of each rank, i32 [size, 2, merged rows]; the memory is `arena`'s.
  TensorView GatherPairs(const Inputs& inputs, Arena& arena);
  // `ids`: of all sampled rows.
  absl::Status RunGathered(const Inputs& inputs, TensorView ids, Arena& arena, Started* started);
  absl::Status RunPrompt(const Inputs& inputs, Arena& arena, Started* started);
  void RunLogits(const Inputs& inputs, Arena& arena, Started* started);
  // Rows `scored` (i32) of this rank's logits, whole, on rank 0: f32 [rows, local_rows * size];
  // not to be looked at on other ranks. The memory is `arena`'s.
  TensorView GatherWholeRows(TensorView logits, TensorView scored, Arena& arena);
  absl::Status SampleBlock(const Inputs& inputs,
                           int64_t begin,
                           int64_t count,
                           TensorView ids,
                           Arena& arena,
                           Started* started);
  // Log-probabilities of `ids` in `whole`, for those rows that want them.
  absl::Status ScoreSampled(const Inputs& inputs,
                            int64_t begin,
                            TensorView whole,
                            TensorView ids,
                            Arena& arena,
                            Started* started) const;

  // The rows that are sampled: `whole`, or a copy with the rules of requests put on it.
  absl::StatusOr<TensorView> Edited(const Inputs& inputs,
                                    int64_t begin,
                                    TensorView whole,
                                    Arena& arena) const;

  Device& device_;
  Communicator& comm_;
  const Sizes sizes_;
  const std::unique_ptr<StepMemory> memory_;
  const LogitEditor editor_;
  const TokenScorer scorer_;
};

}  // namespace deltaserve
