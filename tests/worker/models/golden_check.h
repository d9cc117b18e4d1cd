#pragma once

// DeltaServe against Hugging Face transformers in f32, on one committed golden and one cut.

#include <cstdint>
#include <string>
#include <vector>

#include "tests/worker/models/model_world.h"

namespace deltaserve::test {

struct GoldenCase {
  std::string model;
  Cut cut;
};

// A test's name.
std::string GoldenName(const GoldenCase& golden);

// Runs all prompts of the golden at once and compares logits, log-probabilities and greedy tokens.
void CheckGolden(const std::string& model, const Cut& cut);

// How far a world's numbers are from the golden's, over all positions of its prompts.
struct GoldenNearness {
  double mean_error = 0;  // of the log-sum-exp
  double agreement = 0;   // share of positions with the same most likely token
};
GoldenNearness MeasureNearness(const std::string& model, const Cut& cut);

double LogSumExp(const std::vector<float>& row);

// A token budget that takes each prompt of the golden whole.
int64_t WholeBudget(const std::string& model);

}  // namespace deltaserve::test
