#include "worker/engine/step_plan.h"

#include <algorithm>

namespace deltaserve {

Scoring ScoringOf(const SamplingSettings& sampling, bool rules, bool logprobs) {
  if (logprobs) return Scoring::kGatheredLogProbs;
  if (rules) return Scoring::kGathered;
  const bool filtered = sampling.top_k > 0 || sampling.top_p < 1 || sampling.min_p > 0;
  return sampling.temperature == 0 || !filtered ? Scoring::kMerged : Scoring::kGathered;
}

int64_t StepPlan::num_chunk_rows() const {
  int64_t rows = 0;
  for (const PrefillChunk& chunk : chunks) rows += static_cast<int64_t>(chunk.ids.size());
  return rows;
}

int64_t StepPlan::num_new_blocks() const {
  int64_t blocks = 0;
  for (const OpenSlot& open : opens) blocks += static_cast<int64_t>(open.blocks.size());
  for (const GrowSlot& grow : grows) blocks += static_cast<int64_t>(grow.blocks.size());
  return blocks;
}

int64_t PrefillChunk::num_logit_rows() const {
  const auto scored = static_cast<int64_t>(score_ids.size());
  const auto beyond = std::lower_bound(logit_offsets.begin(), logit_offsets.end(), scored);
  return scored + (logit_offsets.end() - beyond);
}

bool operator==(const OpenSlot& a, const OpenSlot& b) {
  return a.slot == b.slot && a.state == b.state && a.sample_index == b.sample_index &&
         a.num_generated == b.num_generated && a.forced_exit == b.forced_exit &&
         a.exit_seen == b.exit_seen && a.rules == b.rules && a.num_prompt == b.num_prompt &&
         a.logprob_ids == b.logprob_ids && a.blocks == b.blocks &&
         a.sampling.temperature == b.sampling.temperature && a.sampling.top_p == b.sampling.top_p &&
         a.sampling.top_k == b.sampling.top_k && a.sampling.min_p == b.sampling.min_p &&
         a.sampling.seed == b.sampling.seed;
}

bool operator==(const StepPlan& a, const StepPlan& b) {
  return a.kind == b.kind && a.predicted_ms == b.predicted_ms && a.closes == b.closes &&
         a.opens == b.opens && a.state_ops == b.state_ops && a.grows == b.grows &&
         a.decodes == b.decodes && a.chunks == b.chunks;
}

namespace {

void ScoreChunk(const PrefillChunk& chunk, int32_t first_row, ScorePlan* score) {
  const auto add_row = [&](int32_t offset) {
    score->rows.push_back(first_row + offset);
    return static_cast<int32_t>(score->rows.size()) - 1;
  };
  const auto first = static_cast<int32_t>(score->rows.size());
  const auto num_prompt = static_cast<int32_t>(chunk.score_ids.size());
  for (int32_t offset = 0; offset < num_prompt; ++offset) {
    score->prompt.push_back({.id = chunk.score_ids[static_cast<size_t>(offset)],
                             .scored = add_row(offset),
                             .num_top = chunk.score_top});
  }
  for (const int32_t offset : chunk.logit_offsets) {
    score->logits.push_back({.slot = chunk.slot,
                             .position = chunk.start + offset,
                             .scored = offset < num_prompt ? first + offset : add_row(offset)});
  }
  if (chunk.scoring == Scoring::kNone) return;
  const int32_t last = static_cast<int32_t>(chunk.ids.size()) - 1;
  const bool last_scored = !score->rows.empty() && score->rows.back() == first_row + last;
  score->sampled.push_back(
      {.slot = chunk.slot,
       .scored = last_scored ? static_cast<int32_t>(score->rows.size()) - 1 : add_row(last),
       .scoring = chunk.scoring,
       .num_top = chunk.num_top});
}

}  // namespace

ScorePlan MakeScorePlan(const StepPlan& plan) {
  ScorePlan score;
  int32_t row = 0;
  for (const DecodeRow& decode : plan.decodes) {
    score.sampled.push_back({.slot = decode.slot,
                             .scored = static_cast<int32_t>(score.rows.size()),
                             .scoring = decode.scoring,
                             .num_top = decode.num_top});
    score.rows.push_back(row++);
  }
  for (const PrefillChunk& chunk : plan.chunks) {
    ScoreChunk(chunk, row, &score);
    row += static_cast<int32_t>(chunk.ids.size());
  }
  for (const bool merged : {true, false}) {
    for (size_t i = 0; i < score.sampled.size(); ++i) {
      if ((score.sampled[i].scoring == Scoring::kMerged) == merged) {
        score.order.push_back(static_cast<int32_t>(i));
      }
    }
    if (merged) score.num_merged = static_cast<int64_t>(score.order.size());
  }
  return score;
}

}  // namespace deltaserve
