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
// device and are copied a row at a time, when a slot opens or grows; last tokens never leave it;
// everything else travels anew each step.
class StepInputs {
 public:
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

  // Of a step, before the two calls below: host memory is this object's and has room for two steps
  // that the device is not done with.
  void NextStep() { parity_ = 1 - parity_; }
  // Of the step: 0 or 1, not that of the one before.
  size_t parity() const { return parity_; }

  // Enqueues copies of the block tables that `plan` changed. `slots`: after Apply(plan).
  void UploadBlockTables(const StepPlan& plan, const SlotTable& slots);

  // Stages and enqueues one copy. `slots`: after Apply(plan).
  void Upload(const StepPlan& plan, const ScorePlan& score, const SlotTable& slots, Views* views);

 private:
  StepInputs(Device& device, const SlotLimits& limits);

  // Staged values of one array; the view it will have on the device.
  template <typename T>
  TensorView Stage(std::span<const T> values);
  void StageSlots(const StepPlan& plan, const SlotTable& slots, Views* views);
  void CarveRows(RowBatch* rows) const;
  void StageSampling(const ScorePlan& score, const SlotTable& slots, Views* views);

  Device& device_;
  const SlotLimits limits_;
  std::array<Buffer, 2> host_, host_tables_;  // of the steps with each parity
  Buffer on_device_, tables_, last_tokens_;
  Buffer rows_;             // what BuildRows makes
  TensorView block_table_;  // i32 [num_slots, max_blocks_per_slot]
  size_t staged_ = 0;       // bytes
  size_t parity_ = 0;
};

}  // namespace deltaserve
