#pragma once

// StepInputs: the arrays of one step on the device: staged on the host and uploaded in one copy.

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "kernels/ops.h"
#include "worker/engine/slot_table.h"
#include "worker/engine/step_plan.h"
#include "worker/models/model.h"

namespace deltaserve {

// Engine thread. Owner: Executor. All memory is allocated by Create. Block tables stay on the
// device, and blocks that slots get travel with the step, for BuildRows to put there; last tokens
// never leave it; everything else travels anew each step.
class StepInputs {
 public:
  // INVALID_ARGUMENT where block tables have more entries than an i32 counts; as of Allocate().
  static absl::StatusOr<std::unique_ptr<StepInputs>> Create(Device& device,
                                                            const SlotLimits& limits);

  // What a step works on; views are valid until the next Upload.
  struct Views {
    BuildRowsArgs build;  // `out` points to batch.rows
    ForwardBatch batch;
    SampleParams sampled;       // one entry a sampled row, as ScorePlan::order has them
    TensorView sampled_scored;  // i32 [sampled] in that order: index into the scored rows
    TensorView sampled_slot;    // i32 [sampled], the same: its slot
    TensorView forced;          // i32 [sampled], the same: Slot::forced_id()
    TensorView logits_scored;   // i32 [logits], the same
    TensorView prompt_scored;   // i32 [prompt], the same
    TensorView prompt_ids;      // i32 [prompt]
  };

  // Of a step, before Upload(): host memory is this object's and has room for two steps
  // that the device is not done with.
  void NextStep() { parity_ = 1 - parity_; }

  // Stages and enqueues one copy. `slots`: after Apply(plan).
  void Upload(const StepPlan& plan, const ScorePlan& score, const SlotTable& slots, Views* views);

 private:
  StepInputs(Device& device, const SlotLimits& limits);

  // Staged values of one array; the view it will have on the device.
  template <typename T>
  TensorView Stage(std::span<const T> values);
  void StageSlots(const StepPlan& plan, const SlotTable& slots, Views* views);
  void StageBlocks(const StepPlan& plan, const SlotTable& slots, Views* views);
  void CarveRows(RowBatch* rows) const;
  void StageSampling(const ScorePlan& score, const SlotTable& slots, Views* views);

  Device& device_;
  const SlotLimits limits_;
  std::array<Buffer, 2> host_;  // of the steps with each parity
  Buffer on_device_, tables_, last_tokens_;
  Buffer rows_;             // what BuildRows makes
  TensorView block_table_;  // i32 [num_slots, max_blocks_per_slot]
  size_t staged_ = 0;       // bytes
  size_t parity_ = 0;
};

}  // namespace deltaserve
