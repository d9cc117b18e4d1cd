#pragma once

// StepResult: what a step gave, as rank 0 sees it.

#include <cstdint>
#include <vector>

#include "worker/engine/request.h"

namespace deltaserve {

struct StepResult {
  // One a sampled row, in the order of ScorePlan::sampled (decodes, then ended prompts).
  std::vector<int32_t> ids;
  // As long as ids on rank 0; meaningful where the row's scoring is kGatheredLogProbs. Empty on
  // other ranks.
  std::vector<TokenLogProb> logprobs;
  // One a row of ScorePlan::prompt. Empty on other ranks.
  std::vector<TokenLogProb> prompt_scores;
  // One a row of ScorePlan::logits: raw logits of every row of the vocabulary. Empty on other
  // ranks.
  std::vector<std::vector<float>> logits;
};

}  // namespace deltaserve
