#include "tools/bench/world_cases.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/base/status_macros.h"
#include "worker/cache/block_pool.h"

namespace deltaserve::bench {
namespace {

// What a decoding slot has blocks for beyond its depth: steps of all batches together.
constexpr int64_t kDecodeRoom = 512;
// Of any step, for the watchdog, which takes ten times that.
constexpr uint32_t kPredictedMs = 60'000;
constexpr size_t kLeastRuns = 3;
// Of a run's time, spent on the limits after it.
constexpr double kLimitsShare = 0.05;

// Whether a case that has had `all` so far runs again.
bool GoesOn(const std::vector<double>& all, double seconds) {
  const double sum = std::accumulate(all.begin(), all.end(), 0.0);
  return all.empty() || sum < seconds || (all.size() < kLeastRuns && sum < 3 * seconds);
}

// Ids that differ between slots and positions.
std::vector<int32_t> SomeIds(int32_t slot, int64_t start, int64_t count, int64_t num_tokens) {
  std::vector<int32_t> ids;
  for (int64_t i = start; i < start + count; ++i) {
    ids.push_back(static_cast<int32_t>((i * 7919 + int64_t{slot + 1} * 104729) % num_tokens));
  }
  return ids;
}

}  // namespace

Cost WorldTimer::CostOf(const std::vector<StepRows>& sequences, int64_t scored) const {
  Cost cost;
  for (const ShardPlan& plan : shape_.plans) {
    cost += StepCost(shape_.config, plan, shape_.numerics, shape_.quantization, sequences, scored);
  }
  return cost;
}

absl::StatusOr<double> WorldTimer::Run(const StepPlan& plan) {
  const auto begin = std::chrono::steady_clock::now();
  DS_RETURN_IF_ERROR(runner_.Run(plan).status());
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

absl::Status WorldTimer::Add(double seconds, Measurement* m) {
  DS_ASSIGN_OR_RETURN(const Limits after, measure_(kLimitsShare * seconds));
  m->seconds.push_back(seconds);
  m->limits.push_back(MeanOf(last_, after));
  last_ = after;
  return absl::OkStatus();
}

bool WorldTimer::Fits(const std::string& what,
                      int64_t sequences,
                      int64_t tokens,
                      std::vector<std::string>* left_out) const {
  const EngineCapacity& capacity = executor_.capacity();
  const int64_t held = capacity.kv_blocks * kBlockTokens;
  if (tokens > capacity.max_context) {
    left_out->push_back(absl::StrCat(what, ": left out, it takes ", tokens,
                                     " tokens of context, of which there are ",
                                     capacity.max_context));
  } else if (sequences * NumBlocks(tokens) > capacity.kv_blocks) {
    left_out->push_back(absl::StrCat(what, ": left out, it takes ", sequences, " x ", tokens,
                                     " tokens of --kv-memory, which holds ", held));
  } else {
    return true;
  }
  return false;
}

absl::Status WorldTimer::CloseAll() {
  StepPlan plan{.predicted_ms = kPredictedMs};
  for (int32_t slot = 0; slot < executor_.capacity().slots; ++slot) {
    if (executor_.slots().slot(slot).open) plan.closes.push_back(slot);
  }
  return runner_.Run(plan).status();
}

absl::StatusOr<double> WorldTimer::RunPrompt(int32_t slot,
                                             int64_t first_block,
                                             int64_t tokens,
                                             int64_t room) {
  std::vector<int32_t> blocks(static_cast<size_t>(NumBlocks(room)));
  std::iota(blocks.begin(), blocks.end(), static_cast<int32_t>(first_block));
  double seconds = 0;
  for (int64_t start = 0; start < tokens;) {
    StepPlan plan{.predicted_ms = kPredictedMs};
    if (start == 0) {
      plan.opens.push_back(
          {.slot = slot, .state = slot, .sampling = {.temperature = 0}, .blocks = blocks});
      plan.state_ops.push_back({.action = StateAction::kZero, .state = slot});
    }
    const int64_t count = std::min(executor_.token_budget_cap(), tokens - start);
    plan.chunks.push_back({.slot = slot,
                           .start = static_cast<int32_t>(start),
                           .ids = SomeIds(slot, start, count, executor_.capacity().num_tokens),
                           .scoring = start + count == tokens ? Scoring::kMerged : Scoring::kNone});
    DS_ASSIGN_OR_RETURN(const double taken, Run(plan));
    seconds += taken;
    start += count;
  }
  return seconds;
}

Cost WorldTimer::PromptCost(int64_t tokens) const {
  Cost cost;
  for (int64_t start = 0; start < tokens;) {
    const int64_t count = std::min(executor_.token_budget_cap(), tokens - start);
    cost += CostOf({{.first = start, .rows = count}}, start + count == tokens ? 1 : 0);
    start += count;
  }
  return cost;
}

absl::StatusOr<std::vector<Measurement>> WorldTimer::TimePrompts(
    const WorldCases& cases, std::vector<std::string>* left_out) {
  std::vector<Measurement> all;
  std::vector<int64_t> prompts;
  for (const int64_t tokens : cases.prompts) {
    const std::string what = absl::StrCat("prompt ", tokens);
    if (!Fits(what, 1, tokens, left_out)) continue;
    prompts.push_back(tokens);
    all.push_back(
        {.what = what, .tokens = static_cast<double>(tokens), .cost = PromptCost(tokens)});
  }
  DS_ASSIGN_OR_RETURN(last_, measure_(0));
  for (bool ran = true; ran;) {
    ran = false;
    for (size_t i = 0; i < all.size(); ++i) {
      if (!GoesOn(all[i].seconds, cases.seconds)) continue;
      ran = true;
      DS_ASSIGN_OR_RETURN(const double seconds, RunPrompt(0, 0, prompts[i], prompts[i]));
      DS_RETURN_IF_ERROR(CloseAll());
      DS_RETURN_IF_ERROR(Add(seconds, &all[i]));
    }
  }
  return all;
}

absl::StatusOr<std::vector<Measurement>> WorldTimer::TimeDecodes(
    const WorldCases& cases, int64_t depth, std::vector<std::string>* left_out) {
  const int64_t prompt = std::max<int64_t>(depth, 1);
  const int64_t room = prompt + kDecodeRoom;
  const int64_t blocks = NumBlocks(room);
  std::vector<int64_t> batches;
  double filled_seconds = 0;
  int32_t filled = 0;
  for (const int64_t batch : cases.batches) {
    const std::string what = absl::StrCat("decode, depth ", depth, ", batch ", batch);
    if (!Fits(what, batch, room, left_out)) continue;
    const double expected = filled == 0 ? 0 : filled_seconds / filled * static_cast<double>(batch);
    if (expected > cases.fill_seconds) {
      left_out->push_back(
          absl::StrFormat("%s: left out, its prompts would take %.0f s; --fill-seconds is %g", what,
                          expected, cases.fill_seconds));
      continue;
    }
    for (; filled < batch; ++filled) {
      DS_ASSIGN_OR_RETURN(const double seconds, RunPrompt(filled, filled * blocks, prompt, room));
      filled_seconds += seconds;
    }
    batches.push_back(batch);
  }

  std::vector<Measurement> all;
  all.reserve(batches.size());
  for (const int64_t batch : batches) {
    all.push_back({.what = absl::StrCat("decode, depth ", depth, ", batch ", batch),
                   .tokens = static_cast<double>(batch)});
  }
  DS_ASSIGN_OR_RETURN(last_, measure_(0));
  // The first slot takes part in every step, so it is the first that is full.
  const auto full = [&] { return executor_.slots().slot(0).length >= room; };
  for (bool ran = true; ran;) {
    ran = false;
    for (size_t i = 0; i < all.size(); ++i) {
      if (full() || !GoesOn(all[i].seconds, cases.seconds)) continue;
      ran = true;
      StepPlan plan{.predicted_ms = kPredictedMs};
      std::vector<StepRows> rows;
      for (int32_t slot = 0; slot < batches[i]; ++slot) {
        plan.decodes.push_back({.slot = slot});
        rows.push_back({.first = executor_.slots().slot(slot).length});
      }
      DS_ASSIGN_OR_RETURN(const double seconds, Run(plan));
      DS_RETURN_IF_ERROR(Add(seconds, &all[i]));
      all[i].cost += CostOf(rows, batches[i]);
    }
  }
  for (Measurement& m : all) {
    m.cost.bytes /= static_cast<double>(m.seconds.size());
    m.cost.flops /= static_cast<double>(m.seconds.size());
  }
  DS_RETURN_IF_ERROR(CloseAll());
  return all;
}

}  // namespace deltaserve::bench
