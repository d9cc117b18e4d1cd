#include "worker/engine/warm_up.h"

#include <algorithm>
#include <numeric>

#include "kernels/ops.h"
#include "proto/params_check.h"
#include "worker/cache/block_pool.h"
#include "worker/engine/engine_options.h"

namespace deltaserve {
namespace {

constexpr absl::Duration kLeastAllowed = absl::Seconds(120);
constexpr double kPaceFactor = 10;

void Open(int32_t slot, std::vector<int32_t> blocks, StepPlan* plan) {
  // Rules too, of every kind that takes scratch.
  plan->opens.push_back({.slot = slot,
                         .state = slot,
                         .rules = {.presence_penalty = 1, .min_tokens = 1, .ends = {0}},
                         .blocks = std::move(blocks)});
  plan->state_ops.push_back({.action = StateAction::kZero, .state = slot});
}

PrefillChunk Prompt(int32_t slot, int64_t tokens) {
  return {.slot = slot,
          .ids = std::vector<int32_t>(static_cast<size_t>(tokens), 0),
          .scoring = Scoring::kMerged};
}

// As many rows of the chunk as may are scored.
void ScoreRows(PrefillChunk* chunk) {
  const int64_t rows = std::min(kMaxLogitRows, static_cast<int64_t>(chunk->ids.size()));
  chunk->score_ids.resize(static_cast<size_t>(rows));
  chunk->score_top = kMaxLogprobs;
}

// Every slot begins with a prompt of one token, but the first with one that is scored and leaves
// its block room for the decodes of the plans that follow.
StepPlan OpenAll(int64_t sequences) {
  StepPlan plan;
  for (int32_t slot = 0; slot < sequences; ++slot) {
    Open(slot, {slot}, &plan);
    plan.chunks.push_back(Prompt(slot, slot == 0 ? kBlockTokens - 2 : 1));
  }
  ScoreRows(&plan.chunks.front());
  return plan;
}

StepPlan DecodeAll(int64_t sequences) {
  StepPlan plan;
  for (int32_t slot = 0; slot < sequences; ++slot) {
    plan.decodes.push_back(
        {.slot = slot, .scoring = Scoring::kGatheredLogProbs, .num_top = kMaxLogprobs});
  }
  return plan;
}

// Prompts of `token_budget` tokens in as few slots as hold them, the last ones; decodes in the
// others. A slot keeps its block; prompts share out those that no decode holds.
StepPlan MostRows(const SlotLimits& limits, int64_t sequences, int64_t token_budget) {
  StepPlan plan;
  const int64_t per_slot = std::min(limits.max_blocks_per_slot, limits.num_blocks);
  const int64_t budget_blocks = NumBlocks(token_budget);
  const int64_t chunk_blocks = std::min(budget_blocks, limits.num_blocks);
  const int64_t prompts = std::min((chunk_blocks + per_slot - 1) / per_slot, sequences);
  const int64_t decodes = std::min(sequences - prompts, limits.num_blocks - chunk_blocks);
  for (int32_t slot = 0; slot < decodes; ++slot) plan.decodes.push_back({.slot = slot});
  int64_t left = token_budget;
  int64_t next_block = decodes;
  for (int64_t slot = decodes; slot < sequences; ++slot) {
    plan.closes.push_back(static_cast<int32_t>(slot));
    const int64_t blocks = std::min({per_slot, limits.num_blocks - next_block, NumBlocks(left)});
    if (blocks <= 0) continue;
    std::vector<int32_t> owned(static_cast<size_t>(blocks));
    std::iota(owned.begin(), owned.end(), static_cast<int32_t>(next_block));
    Open(static_cast<int32_t>(slot), std::move(owned), &plan);
    const int64_t tokens = std::min(left, blocks * kBlockTokens);
    plan.chunks.push_back(Prompt(static_cast<int32_t>(slot), tokens));
    next_block += blocks;
    left -= tokens;
  }
  ScoreRows(&plan.chunks.front());
  return plan;
}

// Prompts of `token_budget` tokens in as many slots as there are: the last of each chunk of the
// delta rule is a part of one, of which a sequence has its own. `open`: slots that are to be closed
// first.
StepPlan MostPrompts(const SlotLimits& limits,
                     int64_t sequences,
                     int64_t token_budget,
                     std::vector<int32_t> open) {
  StepPlan plan;
  plan.closes = std::move(open);
  int64_t left = std::max(token_budget, sequences);
  int64_t next_block = 0;
  for (int64_t slot = 0; slot < sequences; ++slot) {
    const int64_t others = sequences - slot - 1;  // a block and a token of each
    const int64_t blocks =
        std::min({limits.max_blocks_per_slot, limits.num_blocks - next_block - others,
                  NumBlocks(left - others)});
    std::vector<int32_t> owned(static_cast<size_t>(blocks));
    std::iota(owned.begin(), owned.end(), static_cast<int32_t>(next_block));
    Open(static_cast<int32_t>(slot), std::move(owned), &plan);
    const int64_t tokens = std::min(left - others, blocks * kBlockTokens);
    plan.chunks.push_back(Prompt(static_cast<int32_t>(slot), tokens));
    next_block += blocks;
    left -= tokens;
  }
  return plan;
}

// The slots that are open after `plan`.
std::vector<int32_t> OpenAfter(const StepPlan& plan) {
  std::vector<int32_t> slots;
  for (const DecodeRow& decode : plan.decodes) slots.push_back(decode.slot);
  for (const OpenSlot& open : plan.opens) slots.push_back(open.slot);
  return slots;
}

}  // namespace

StepPlan ProbePlan() {
  StepPlan plan;
  Open(0, {0}, &plan);
  plan.chunks.push_back(Prompt(0, kBlockTokens));
  return plan;
}

std::vector<StepPlan> WarmUpPlans(const SlotLimits& limits, int64_t token_budget) {
  const int64_t sequences = std::min(limits.num_slots, limits.num_blocks);
  std::vector<StepPlan> plans;
  plans.push_back(OpenAll(sequences));
  plans.push_back(DecodeAll(sequences));
  plans.push_back(MostRows(limits, sequences, token_budget));
  plans.push_back(MostPrompts(limits, sequences, token_budget, OpenAfter(plans.back())));
  plans.push_back({.kind = PlanKind::kIdle, .closes = OpenAfter(plans.back())});
  return plans;
}

absl::Duration WarmUpPace::Allowed(int64_t rows) const {
  return std::max({kLeastAllowed, step_, rows * row_});
}

void WarmUpPace::Record(int64_t rows, absl::Duration took) {
  if (rows == 0) return;
  const absl::Duration allowed = kPaceFactor * took;
  step_ = std::max(step_, allowed);
  row_ = measured_ ? std::max(row_, allowed / rows) : allowed / rows;
  measured_ = true;
}

}  // namespace deltaserve
