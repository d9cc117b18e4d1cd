#pragma once

// What tests of the scheduler share: requests, a scheduler with made-up results, events as text.

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "proto/error.h"
#include "worker/engine/scheduler.h"

namespace deltaserve {

inline const absl::Time kNow = absl::UnixEpoch();
inline constexpr int32_t kToken = 5;  // what every row samples here

inline Request Ask(int64_t prompt, uint32_t max_tokens) {
  Request request;
  request.prompt.assign(static_cast<size_t>(prompt), 1);
  request.sampling.temperature = 0;
  request.max_tokens = max_tokens;
  return request;
}

class SchedulerTest : public ::testing::Test {
 protected:
  void Make(int64_t slots, int64_t blocks) {
    scheduler_ = std::make_unique<Scheduler>(SchedulerOptions{.slots = slots, .kv_blocks = blocks});
  }

  void Submit(uint64_t ticket, Request request, absl::Time now = kNow, Speed speed = {}) {
    scheduler_->Submit(ticket, std::move(request), now, speed);
  }

  StepPlan Next(int64_t budget = 1024, absl::Time now = kNow) {
    std::optional<StepPlan> plan = scheduler_->Next(now, budget);
    EXPECT_TRUE(plan.has_value());
    return plan.value_or(StepPlan());
  }

  void Commit(const StepPlan& plan) {
    const ScorePlan score = MakeScorePlan(plan);
    StepResult result;
    result.ids.assign(score.sampled.size(), kToken);
    result.logits.resize(score.logits.size());
    for (const auto& token : score.prompt) result.prompt_scores.push_back({.id = token.id});
    scheduler_->Commit(std::move(result));
  }

  StepPlan Step(int64_t budget = 1024) {
    StepPlan plan = Next(budget);
    Commit(plan);
    return plan;
  }

  // Since the last call: "1 admitted", "1 token 0", "1 length", ...
  std::vector<std::string> Events() {
    std::vector<std::string> names;
    for (const SchedulerEvent& event : scheduler_->TakeEvents()) {
      const std::string who = std::to_string(event.ticket);
      if (std::holds_alternative<SchedulerEvent::Admitted>(event.what)) {
        names.push_back(who + " admitted");
      } else if (const auto* tokens = std::get_if<SchedulerEvent::Tokens>(&event.what)) {
        names.push_back(who + " token " + std::to_string(tokens->first_index));
      } else if (const auto* logits = std::get_if<SchedulerEvent::Logits>(&event.what)) {
        names.push_back(who + " logits " + std::to_string(logits->position));
      } else if (const auto* page = std::get_if<SchedulerEvent::PromptScores>(&event.what)) {
        const int64_t end = page->first_position + static_cast<int64_t>(page->tokens.size());
        names.push_back(who + " scores " + std::to_string(page->first_position) + " to " +
                        std::to_string(end - 1));
      } else if (const auto* ended = std::get_if<Ended>(&event.what)) {
        constexpr const char* kNames[] = {"stop", "length", "cancelled"};
        names.push_back(who + " " + kNames[static_cast<int>(ended->reason)]);
      } else {
        names.push_back(who + " error " +
                        v1::ErrorCode_Name(DetailOf(std::get<absl::Status>(event.what)).code()));
      }
    }
    return names;
  }

  static std::vector<std::pair<int64_t, int64_t>> Chunks(const StepPlan& plan) {
    std::vector<std::pair<int64_t, int64_t>> chunks;
    for (const PrefillChunk& chunk : plan.chunks) {
      chunks.emplace_back(chunk.start, static_cast<int64_t>(chunk.ids.size()));
    }
    return chunks;
  }

  std::unique_ptr<Scheduler> scheduler_;
};

using Chunk = std::pair<int64_t, int64_t>;  // start, length

}  // namespace deltaserve
