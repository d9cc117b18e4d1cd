#include "worker/replay/plan_check.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "proto/params_check.h"
#include "worker/engine/request_check.h"

namespace deltaserve {
namespace {

absl::Status Misfit(const std::string& what) { return absl::DataLossError(what); }

absl::Status CheckTokens(const std::vector<int32_t>& ids, const char* what, int64_t num_tokens) {
  for (const int32_t id : ids) {
    if (id < 0 || id >= num_tokens) {
      return Misfit(absl::StrCat(what, " has token ", id, " of ", num_tokens));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckAlternatives(int num_top, int32_t slot) {
  if (num_top <= static_cast<int>(kMaxLogprobs)) return absl::OkStatus();
  return Misfit(absl::StrCat("a row of slot ", slot, " wants ", num_top, " alternatives, ",
                             kMaxLogprobs, " at most"));
}

// What proto/params_check.h sees to where a request comes.
absl::Status CheckNumbers(const LogitRules& rules) {
  bool fits = std::isfinite(rules.presence_penalty) && std::isfinite(rules.frequency_penalty) &&
              std::isfinite(rules.repetition_penalty);
  for (const auto& [id, bias] : rules.bias) fits = fits && std::isfinite(bias);
  if (!fits) return Misfit("a penalty or bias is not finite");
  const auto descends = [](const auto& a, const auto& b) { return a.first >= b.first; };
  if (std::adjacent_find(rules.bias.begin(), rules.bias.end(), descends) == rules.bias.end()) {
    return absl::OkStatus();
  }
  return Misfit("the ids of biases do not ascend");
}

absl::Status CheckOpen(const OpenSlot& open, int64_t num_tokens) {
  const auto of_slot = [&](const absl::Status& status) {
    return status.ok() ? status
                       : Misfit(absl::StrCat("open of slot ", open.slot, ": ", status.message()));
  };
  DS_RETURN_IF_ERROR(of_slot(CheckSampling(open.sampling)));
  DS_RETURN_IF_ERROR(of_slot(CheckRules(open.rules, num_tokens)));
  DS_RETURN_IF_ERROR(of_slot(CheckNumbers(open.rules)));
  if (!open.forced_exit.force_ids.empty()) {
    DS_RETURN_IF_ERROR(of_slot(CheckForcedExit(open.forced_exit, num_tokens)));
  }
  return of_slot(CheckTokens(open.logprob_ids, "logprobs", num_tokens));
}

// No two slots write to one block or state.
absl::Status CheckOwners(const SlotTable& slots) {
  const SlotLimits& limits = slots.limits();
  std::vector<uint8_t> blocks(static_cast<size_t>(limits.num_blocks));
  std::vector<uint8_t> states(static_cast<size_t>(limits.num_states));
  for (int64_t index = 0; index < limits.num_slots; ++index) {
    const Slot& slot = slots.slot(index);
    if (!slot.open) continue;
    if (states[static_cast<size_t>(slot.state)]++ > 0) {
      return Misfit(absl::StrCat("state ", slot.state, " is slot ", index, "'s and another's"));
    }
    for (const int32_t block : slot.blocks) {
      if (blocks[static_cast<size_t>(block)]++ == 0) continue;
      return Misfit(absl::StrCat("block ", block, " is slot ", index, "'s twice or another's too"));
    }
  }
  return absl::OkStatus();
}

// A state is zeroed when its slot opens, and then alone.
absl::Status CheckStates(const StepPlan& plan) {
  std::vector<int32_t> opened, zeroed;
  for (const OpenSlot& open : plan.opens) opened.push_back(open.state);
  for (const StateOp& op : plan.state_ops) zeroed.push_back(op.state);
  std::sort(opened.begin(), opened.end());
  std::sort(zeroed.begin(), zeroed.end());
  return opened == zeroed ? absl::OkStatus()
                          : Misfit("the states that are zeroed are not those of slots that open");
}

}  // namespace

absl::Status CheckPlan(const StepPlan& plan,
                       const SlotTable& slots,
                       const EngineCapacity& capacity) {
  if (plan.kind != PlanKind::kStep && plan.num_rows() > 0) {
    return Misfit(absl::StrCat("an idle or stop plan has ", plan.num_rows(), " rows"));
  }
  SlotTable after = slots;
  DS_RETURN_IF_ERROR(after.Apply(plan));
  DS_RETURN_IF_ERROR(CheckOwners(after));
  DS_RETURN_IF_ERROR(CheckStates(plan));
  for (const OpenSlot& open : plan.opens) DS_RETURN_IF_ERROR(CheckOpen(open, capacity.num_tokens));
  for (const DecodeRow& decode : plan.decodes) {
    DS_RETURN_IF_ERROR(CheckAlternatives(decode.num_top, decode.slot));
  }
  for (const PrefillChunk& chunk : plan.chunks) {
    DS_RETURN_IF_ERROR(CheckTokens(chunk.ids, "a chunk", capacity.num_tokens));
    DS_RETURN_IF_ERROR(CheckTokens(chunk.score_ids, "what a chunk scores", capacity.num_tokens));
    DS_RETURN_IF_ERROR(CheckAlternatives(std::max(chunk.num_top, chunk.score_top), chunk.slot));
  }
  return absl::OkStatus();
}

}  // namespace deltaserve
