// Random loads on a world whose steps last exactly as long as its speed says: what the scheduler
// promises about time.

#include <map>
#include <random>

#include "gtest/gtest.h"
#include "worker/engine/scheduler.h"

namespace deltaserve {
namespace {

constexpr Speed kSpeed = {.prompt_token = absl::Seconds(1), .decode_step = absl::Seconds(5)};

// Slow, so that all the times of interest are far beyond Scheduler::kPatience.
class SlowWorld {
 public:
  struct Life {
    absl::Time came, admitted = absl::InfiniteFuture(), over = absl::InfiniteFuture();
    int32_t priority = 0;
    bool failed = false;
  };

  SlowWorld(uint32_t seed, int64_t slots, int64_t budget)
      : random_(seed), budget_(budget), scheduler_({.slots = slots, .kv_blocks = 40}) {}

  Request Draw() {
    Request request;
    request.prompt.assign(1 + random_() % (random_() % 3 == 0 ? 600 : 80), 1);
    request.max_tokens = static_cast<uint32_t>(1 + random_() % 40);
    request.priority = static_cast<int32_t>(random_() % 2);
    if (random_() % 8 == 0) request.prompt_logprobs = 0;
    return request;
  }

  uint64_t Submit(Request request) {
    const uint64_t ticket = next_ticket_++;
    lives_[ticket] = {.came = now_, .priority = request.priority};
    scheduler_.Submit(ticket, std::move(request), now_, {});
    TakeEvents();
    return ticket;
  }

  // Whether `request` would be refused if it had to be over in `allowed`. Leaves no trace.
  bool Refuses(Request request, absl::Duration allowed) {
    request.deadline = now_ + allowed;
    scheduler_.Submit(kProbe, std::move(request), now_, kSpeed);
    const bool refused = !scheduler_.Cancel(kProbe);
    EXPECT_EQ(scheduler_.TakeEvents().size(), 1u);
    return refused;
  }

  // One step, or a second without one.
  void Step() {
    const std::optional<StepPlan> plan = scheduler_.Next(now_, budget_);
    TakeEvents();
    if (!plan.has_value()) {
      now_ += absl::Seconds(1);
      return;
    }
    const absl::Duration decode = plan->decodes.empty() ? absl::ZeroDuration() : kSpeed.decode_step;
    now_ += std::max(plan->num_chunk_rows() * kSpeed.prompt_token + decode, kSpeed.decode_step);
    StepResult result;
    const ScorePlan score = MakeScorePlan(*plan);
    result.ids.assign(score.sampled.size(), 7);
    result.prompt_scores.resize(score.prompt.size());
    scheduler_.Commit(std::move(result));
    TakeEvents();
  }

  absl::Time now() const { return now_; }
  bool empty() const { return scheduler_.empty(); }
  uint64_t Random() { return random_(); }
  const std::map<uint64_t, Life>& lives() const { return lives_; }

 private:
  static constexpr uint64_t kProbe = 1u << 30;

  void TakeEvents() {
    for (const SchedulerEvent& event : scheduler_.TakeEvents()) {
      Life& life = lives_[event.ticket];
      if (std::holds_alternative<SchedulerEvent::Admitted>(event.what)) {
        life.admitted = now_;
        CheckOvertaken(life);
      }
      life.failed = std::holds_alternative<absl::Status>(event.what);
      if (life.failed || std::holds_alternative<Ended>(event.what)) life.over = now_;
    }
  }

  void CheckOvertaken(const Life& by) {
    for (const auto& [ticket, life] : lives_) {
      if (life.admitted != absl::InfiniteFuture() || life.over != absl::InfiniteFuture()) continue;
      EXPECT_GE(by.priority, life.priority) << ticket;
      if (by.priority == life.priority) {
        EXPECT_LE(by.came, life.came + Scheduler::kPatience) << ticket;
      }
    }
  }

  std::mt19937_64 random_;
  const int64_t budget_;
  Scheduler scheduler_;
  absl::Time now_ = absl::UnixEpoch();
  uint64_t next_ticket_ = 1;
  std::map<uint64_t, Life> lives_;
};

class SchedulerTimeTest : public ::testing::TestWithParam<std::pair<int64_t, int64_t>> {};

TEST_P(SchedulerTimeTest, WhoIsRefusedCouldNotHaveBeenInTime) {
  const auto [slots, budget] = GetParam();
  SlowWorld world(1, slots, budget);
  std::map<uint64_t, absl::Duration> refused;  // the longest time in which it was thought too slow
  for (int round = 0; round < 2000; ++round) {
    if (world.Random() % 8 == 0) {
      const Request request = world.Draw();
      absl::Duration longest;
      for (int probe = 0; probe < 20; ++probe) {
        const absl::Duration allowed = absl::Seconds(60 + world.Random() % 6000);
        if (world.Refuses(request, allowed)) longest = std::max(longest, allowed);
      }
      refused[world.Submit(request)] = longest;
    }
    world.Step();
  }
  while (!world.empty()) world.Step();
  int told = 0, close = 0;
  for (const auto& [ticket, longest] : refused) {
    const absl::Duration took = world.lives().at(ticket).over - world.lives().at(ticket).came;
    EXPECT_GT(took, longest) << ticket;
    told += longest > absl::ZeroDuration() ? 1 : 0;
    close += took < 3 * longest ? 1 : 0;
  }
  EXPECT_GT(told, 20);  // and it is not that nobody is refused
  EXPECT_GT(close, 10);
}

TEST_P(SchedulerTimeTest, NobodyIsOvertakenByWhoCameMuchLater) {
  const auto [slots, budget] = GetParam();
  SlowWorld world(2, slots, budget);
  for (int round = 0; round < 2000; ++round) {
    // Many at once: in a step pass as many seconds as patience lasts.
    for (uint64_t i = world.Random() % 40 == 0 ? world.Random() % 40 : 0; i > 0; --i) {
      Request request = world.Draw();
      if (i % 2 == 0) request.deadline = world.now() + absl::Seconds(1 + world.Random() % 500);
      world.Submit(request);
    }
    world.Step();
  }
  while (!world.empty()) world.Step();
  int overtaken = 0;
  const SlowWorld::Life* before = nullptr;
  for (const auto& [ticket, life] : world.lives()) {
    if (life.admitted == absl::InfiniteFuture()) continue;  // its deadline came
    if (before != nullptr && before->admitted > life.admitted) ++overtaken;
    before = &life;
  }
  EXPECT_GT(overtaken, 10);
}

INSTANTIATE_TEST_SUITE_P(
    SlotsAndBudget,
    SchedulerTimeTest,
    ::testing::Values(std::pair(1, 64), std::pair(4, 64), std::pair(4, 256), std::pair(12, 100)));

}  // namespace
}  // namespace deltaserve
