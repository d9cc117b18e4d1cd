#pragma once

// The steps that bench_world times: prompts, and decodes of some sequences at once at some depth.

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/numerics.h"
#include "tools/bench/measurement.h"
#include "tools/bench/step_cost.h"
#include "worker/engine/executor.h"
#include "worker/engine/step_runner.h"

namespace deltaserve::bench {

struct WorldCases {
  std::vector<int64_t> prompts = {128, 512, 4096};
  std::vector<int64_t> depths = {0, 4096};
  std::vector<int64_t> batches = {1, 2, 4, 8, 16, 32};
  double seconds = 5;        // for each; three runs at least unless they take three times that
  double fill_seconds = 60;  // at most for the prompts that decodes at a depth need
};

// What the model's plans of all ranks say.
struct WorldShape {
  ModelConfig config;
  Numerics numerics;
  Quantization quantization = Quantization::kNone;
  std::vector<ShardPlan> plans;  // one a rank
};

// The limits of all ranks at once; at least so many seconds of them.
using MeasureWorldLimits = std::function<absl::StatusOr<Limits>(double seconds)>;

// Rank 0 while the others follow. Each call runs plans and closes every slot with the last. Main
// thread.
class WorldTimer {
 public:
  // `measure` is called between runs.
  WorldTimer(StepRunner& runner,
             const Executor& executor,
             const WorldShape& shape,
             MeasureWorldLimits measure)
      : runner_(runner), executor_(executor), shape_(shape), measure_(std::move(measure)) {}

  // Prompts in turn, each alone, in chunks of the token budget. Here and below `left_out` gets a
  // line for each case that there is no memory or time for.
  absl::StatusOr<std::vector<Measurement>> TimePrompts(const WorldCases& cases,
                                                       std::vector<std::string>* left_out);

  // Steps of each batch in turn, after prompts of `depth` tokens (one for depth 0).
  absl::StatusOr<std::vector<Measurement>> TimeDecodes(const WorldCases& cases,
                                                       int64_t depth,
                                                       std::vector<std::string>* left_out);

 private:
  bool Fits(const std::string& what,
            int64_t sequences,
            int64_t tokens,
            std::vector<std::string>* left_out) const;
  Cost CostOf(const std::vector<StepRows>& sequences, int64_t scored) const;
  absl::StatusOr<double> Run(const StepPlan& plan);
  // Adds a run of `m` that took `seconds`, with the limits from before and after it.
  absl::Status Add(double seconds, Measurement* m);
  // Runs a prompt of `tokens` in `slot`, which gets blocks for `room` tokens from `first_block` on
  // and stays open; its seconds.
  absl::StatusOr<double> RunPrompt(int32_t slot, int64_t first_block, int64_t tokens, int64_t room);
  Cost PromptCost(int64_t tokens) const;
  absl::Status CloseAll();

  StepRunner& runner_;
  const Executor& executor_;
  const WorldShape& shape_;
  const MeasureWorldLimits measure_;
  Limits last_;  // from before the run under way
};

}  // namespace deltaserve::bench
