#pragma once

// SlotTable: what every rank knows of the running sequences: a pure fold of plans and sampled ids.
// Ids may come after the plans that follow: the device has them, the table will.

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "worker/engine/engine_options.h"
#include "worker/engine/step_plan.h"

namespace deltaserve {

struct SlotLimits {
  int64_t num_slots = 0;
  int64_t num_states = 0;
  int64_t num_blocks = 0;
  int64_t max_blocks_per_slot = 0;
  int64_t vocab_rows = 0;
  int64_t max_rows = 0;  // of a step
  bool prompt_logits = false;
};

struct Slot {
  bool open = false;
  uint32_t opening = 0;        // how many sequences have had the slot, this one included
  int32_t length = 0;          // tokens in cache and state
  int32_t last_token = -1;     // the last one sampled whose id is known; -1: none
  int32_t num_awaited = 0;     // sampled ones after it, whose ids only the device knows
  uint32_t num_generated = 0;  // random counter: index of the token to be sampled next
  int32_t state = 0;
  uint32_t sample_index = 0;
  SamplingSettings sampling = {};
  ForcedExit forced_exit = {};
  bool exit_seen = false;
  std::optional<LogitHistory> history = {};  // where the request has rules
  std::vector<int32_t> logprob_ids = {};     // scored with every token
  std::vector<int32_t> blocks = {};

  // The token to be sampled next where a thinking budget fixes it, else -1.
  int32_t forced_id() const { return forced_exit.IdAt(num_generated, exit_seen); }
  // Whether there is a token to decode from.
  bool has_token() const { return last_token >= 0 || num_awaited > 0; }
  // Whether what is sampled next depends on ids that are awaited.
  bool needs_ids() const {
    return num_awaited > 0 &&
           ((history.has_value() && history->looks_back()) || !forced_exit.force_ids.empty());
  }
};

// Engine thread. Owner: Executor.
class SlotTable {
 public:
  explicit SlotTable(const SlotLimits& limits);

  // Applies closes, opens and grows and checks the rest of the plan against the slots. DATA_LOSS
  // names what does not fit; the table is then undefined and the world must end.
  absl::Status Apply(const StepPlan& plan);

  // Once the step is under way: lengths grow by the rows run, ids of what it samples are awaited.
  void Advance(const StepPlan& plan);
  // The ids of the first step advanced that has not had them, one a row of
  // MakeScorePlan(plan).sampled: they become last tokens of slots that are still their sequence's.
  void TakeIds(std::span<const int32_t> ids);

  const Slot& slot(int64_t index) const { return slots_[static_cast<size_t>(index)]; }
  const SlotLimits& limits() const { return limits_; }
  int64_t num_open() const;

  // Of everything that the table says and of all ids that ever came in: equal on ranks that agree.
  // No ids may be awaited.
  uint32_t Digest() const;

 private:
  absl::Status ApplyClose(int32_t slot);
  bool HasRow(int32_t id) const { return id >= 0 && id < limits_.vocab_rows; }
  bool HaveRows(std::span<const int32_t> ids) const;
  absl::Status CheckRules(const LogitRules& rules) const;
  absl::Status ApplyOpen(const OpenSlot& open);
  absl::Status Append(int32_t slot, std::span<const int32_t> blocks);
  absl::Status CheckDecode(const DecodeRow& decode) const;
  absl::Status CheckChunk(const PrefillChunk& chunk) const;
  absl::Status CheckLogitRows(const PrefillChunk& chunk) const;
  absl::Status CheckOpen(int32_t slot, const char* what) const;

  // A row that was sampled, and for which sequence.
  struct Awaited {
    int32_t slot = 0;
    uint32_t opening = 0;
  };

  const SlotLimits limits_;
  std::vector<Slot> slots_;
  std::deque<std::vector<Awaited>> awaited_;  // of each step whose ids have not come
  uint32_t history_ = 0;                      // CRC of all ids that came
};

}  // namespace deltaserve
