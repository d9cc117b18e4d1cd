// Long random runs of the scheduler against a slot table, with every invariant looked at each step.

#include <map>
#include <random>
#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/ops.h"
#include "worker/engine/request_check.h"
#include "worker/engine/scheduler.h"
#include "worker/engine/slot_table.h"

namespace deltaserve {
namespace {

constexpr int32_t kEos = 3;

struct Setting {
  uint32_t seed;
  int64_t slots;
  int64_t blocks;
  int64_t max_budget;
  size_t depth;  // plans made before the first result is committed
};

void PrintTo(const Setting& setting, std::ostream* out) { *out << "seed " << setting.seed; }

// The token of a sequence at an index: what a model would give, whatever the batch.
int32_t TokenOf(uint64_t request, uint32_t index) {
  return static_cast<int32_t>((request * 7919 + index * 104729) % 97);
}

// The token of every prompt at a position.
int32_t PromptToken(size_t position) { return static_cast<int32_t>(position % 89); }

// One simulated world: a queue of plans in flight, and what each request has received.
class Simulation {
 public:
  explicit Simulation(const Setting& setting)
      : setting_(setting),
        random_(setting.seed),
        scheduler_({.slots = setting.slots, .kv_blocks = setting.blocks}),
        table_({.num_slots = setting.slots,
                .num_states = setting.slots,
                .num_blocks = setting.blocks,
                .max_blocks_per_slot = setting.blocks,
                .vocab_rows = 100,
                .max_rows = setting.slots + setting.max_budget,
                .prompt_logits = true}) {}

  void Run() {
    for (int round = 0; round < 4000; ++round) {
      now_ += absl::Milliseconds(1);
      if (round < 3000 && random_() % 3 == 0) SubmitOne();
      if (random_() % 20 == 0) CancelOne();
      Plan();
      while (plans_.size() > (idle_ ? 0 : setting_.depth)) CommitOldest();
      TakeEvents();
      ASSERT_FALSE(::testing::Test::HasFailure()) << "round " << round;
    }
    for (int round = 0; round < 100000 && !scheduler_.empty(); ++round) {
      Plan();
      while (plans_.size() > (idle_ ? 0 : setting_.depth)) CommitOldest();
      TakeEvents();
    }
    EndsClean();
  }

 private:
  struct Known {
    Request request;
    uint32_t next_index = 0;
    bool admitted = false;
    bool over = false;
    bool cancelled = false;
    size_t logits = 0;
    size_t scores = 0;
    int32_t slot = -1;
  };

  void SubmitOne() {
    Request request;
    const uint64_t ticket = next_ticket_++;
    const int64_t room = setting_.blocks * kBlockTokens;
    const int64_t most = std::min<int64_t>(room - 1, random_() % 4 == 0 ? 400 : 90);
    request.prompt.resize(1 + random_() % static_cast<uint64_t>(most));
    for (size_t at = 0; at < request.prompt.size(); ++at) request.prompt[at] = PromptToken(at);
    const int64_t left = room - static_cast<int64_t>(request.prompt.size());
    request.max_tokens =
        static_cast<uint32_t>(1 + random_() % static_cast<uint64_t>(std::min<int64_t>(left, 60)));
    if (random_() % 4 == 0) request.eos_token_ids = {kEos};
    if (random_() % 5 == 0) {
      const uint32_t cut = static_cast<uint32_t>(random_() % request.max_tokens);
      for (uint32_t i = 0; i < cut; ++i) request.generated.push_back(90);
    }
    if (random_() % 6 == 0) {
      for (size_t at = random_() % 3; at < request.prompt.size(); at += 1 + random_() % 4) {
        request.logits_at.push_back(static_cast<int64_t>(at));
      }
    }
    if (random_() % 4 == 0) request.deadline = now_ + absl::Milliseconds(random_() % 200);
    if (random_() % 3 == 0) request.sampling = {.temperature = 1, .top_k = 4};
    if (random_() % 7 == 0) request.logprobs = 2;
    if (random_() % 5 == 0) request.prompt_logprobs = 3;
    request.priority = static_cast<int32_t>(random_() % 3);
    known_[ticket] = {.request = request,
                      .next_index = static_cast<uint32_t>(request.generated.size())};
    scheduler_.Submit(ticket, std::move(request), now_, {});
  }

  void CancelOne() {
    if (known_.empty()) return;
    // Most of the latest are still there.
    const uint64_t ticket = next_ticket_ - 1 - random_() % std::min<uint64_t>(20, next_ticket_ - 1);
    Known& known = known_[ticket];
    const bool cancelled = scheduler_.Cancel(ticket);
    known.cancelled = known.cancelled || cancelled;
  }

  void Plan() {
    const int64_t budget =
        64 + static_cast<int64_t>(random_() % static_cast<uint64_t>(setting_.max_budget - 63));
    std::optional<StepPlan> plan = scheduler_.Next(now_, budget);
    idle_ = !plan.has_value();
    EXPECT_LE(scheduler_.num_running(), setting_.slots);
    EXPECT_EQ(scheduler_.num_running(), setting_.slots - scheduler_.free_slots());
    EXPECT_GE(scheduler_.free_blocks(), 0);
    if (idle_) return;
    CheckShape(*plan, budget);
    const absl::Status status = table_.Apply(*plan);
    ASSERT_TRUE(status.ok()) << status;
    CheckBlocksAreOwnedOnce();
    table_.Advance(*plan);
    plans_.push_back(*std::move(plan));
    owners_.push_back(OwnersOf(plans_.back()));
  }

  void CheckShape(const StepPlan& plan, int64_t budget) {
    EXPECT_LE(plan.num_chunk_rows(), budget);
    EXPECT_LE(static_cast<int64_t>(plan.decodes.size()), setting_.slots);
    int64_t logit_rows = 0;
    for (const PrefillChunk& chunk : plan.chunks) {
      EXPECT_EQ(chunk.start % kBlockTokens, 0);
      const bool ends_prompt = chunk.scoring != Scoring::kNone;
      EXPECT_TRUE(ends_prompt || chunk.ids.size() % kBlockTokens == 0) << chunk.ids.size();
      logit_rows += chunk.num_logit_rows();
    }
    EXPECT_LE(logit_rows, 64);
    // Prompts wait only for budget: one chunk at least runs in every step that has any.
    if (scheduler_.num_running() > static_cast<int64_t>(plan.decodes.size()) &&
        setting_.depth == 0) {
      EXPECT_FALSE(plan.chunks.empty());
    }
  }

  void CheckBlocksAreOwnedOnce() {
    std::set<int32_t> seen;
    for (int64_t i = 0; i < setting_.slots; ++i) {
      for (const int32_t block : table_.slot(i).blocks) {
        EXPECT_TRUE(seen.insert(block).second) << "block " << block << " in two slots";
      }
    }
    EXPECT_EQ(static_cast<int64_t>(seen.size()), scheduler_.used_blocks());
  }

  // Ticket of each sampled row, by following opens.
  std::vector<uint64_t> OwnersOf(const StepPlan& plan) {
    for (const SchedulerEvent& event : scheduler_.TakeEvents()) {
      if (std::holds_alternative<SchedulerEvent::Admitted>(event.what)) {
        admitted_.push_back(event.ticket);
      }
      events_.push_back(event);
    }
    size_t next = 0;
    EXPECT_EQ(plan.opens.size(), admitted_.size());
    for (const OpenSlot& open : plan.opens) {
      slot_owner_[open.slot] = admitted_[next++];
    }
    admitted_.clear();
    std::vector<uint64_t> owners;
    for (const ScorePlan::Sampled& sampled : MakeScorePlan(plan).sampled) {
      owners.push_back(slot_owner_[sampled.slot]);
    }
    return owners;
  }

  void CommitOldest() {
    const StepPlan plan = std::move(plans_.front());
    const std::vector<uint64_t> owners = std::move(owners_.front());
    plans_.erase(plans_.begin());
    owners_.erase(owners_.begin());
    StepResult result;
    for (const uint64_t owner : owners) {
      result.ids.push_back(TokenOf(owner, planned_[owner] + Resumed(owner)));
      ++planned_[owner];
      EXPECT_LE(planned_[owner] + Resumed(owner), known_[owner].request.max_tokens);
    }
    const ScorePlan score = MakeScorePlan(plan);
    result.logits.resize(score.logits.size());
    for (const auto& token : score.prompt) result.prompt_scores.push_back({.id = token.id});
    table_.TakeIds(result.ids);
    scheduler_.Commit(std::move(result));
  }

  uint32_t Resumed(uint64_t ticket) {
    return static_cast<uint32_t>(known_[ticket].request.generated.size());
  }

  void TakeEvents() {
    for (SchedulerEvent& event : scheduler_.TakeEvents()) {
      if (std::holds_alternative<SchedulerEvent::Admitted>(event.what)) {
        admitted_.push_back(event.ticket);
      }
      events_.push_back(std::move(event));
    }
    for (const SchedulerEvent& event : events_) Check(event);
    events_.clear();
  }

  void Check(const SchedulerEvent& event) {
    Known& known = known_[event.ticket];
    EXPECT_FALSE(known.over) << "an event after the end";
    if (std::holds_alternative<SchedulerEvent::Admitted>(event.what)) {
      EXPECT_FALSE(known.admitted);
      known.admitted = true;
    } else if (const auto* tokens = std::get_if<SchedulerEvent::Tokens>(&event.what)) {
      EXPECT_TRUE(known.admitted);
      EXPECT_EQ(tokens->first_index, known.next_index);
      ASSERT_EQ(tokens->ids.size(), 1u);
      EXPECT_EQ(tokens->ids[0], TokenOf(event.ticket, known.next_index));
      ++known.next_index;
    } else if (const auto* logits = std::get_if<SchedulerEvent::Logits>(&event.what)) {
      ASSERT_LT(known.logits, known.request.logits_at.size());
      EXPECT_EQ(logits->position, known.request.logits_at[known.logits++]);
    } else if (const auto* page = std::get_if<SchedulerEvent::PromptScores>(&event.what)) {
      EXPECT_TRUE(known.admitted);
      EXPECT_EQ(known.next_index, known.request.generated.size()) << "a page after a token";
      for (const TokenLogProb& token : page->tokens) {
        EXPECT_EQ(page->first_position + (&token - page->tokens.data()),
                  static_cast<int64_t>(++known.scores));
        EXPECT_EQ(token.id, PromptToken(known.scores));
      }
    } else if (const auto* ended = std::get_if<Ended>(&event.what)) {
      known.over = true;
      CheckEnd(event.ticket, known, *ended);
    } else {
      known.over = true;
      ++ends_["deadline"];
      EXPECT_LE(known.request.deadline, now_);
    }
  }

  void CheckEnd(uint64_t ticket, const Known& known, const Ended& ended) {
    EXPECT_EQ(ended.completion_tokens, known.next_index);
    switch (ended.reason) {
      case FinishReason::kCancelled:
        ++ends_["cancelled"];
        EXPECT_TRUE(known.cancelled);
        return;
      case FinishReason::kStop:
        ++ends_["stop"];
        EXPECT_FALSE(known.request.eos_token_ids.empty());
        EXPECT_EQ(TokenOf(ticket, known.next_index - 1), kEos);
        return;
      case FinishReason::kLength:
        ++ends_["length"];
        EXPECT_EQ(known.next_index, known.request.max_tokens);
        EXPECT_EQ(known.logits, known.request.logits_at.size());
        EXPECT_EQ(known.scores,
                  known.request.prompt_logprobs ? known.request.prompt.size() - 1 : 0);
        return;
    }
  }

  void EndsClean() {
    EXPECT_TRUE(scheduler_.empty());
    EXPECT_EQ(scheduler_.free_slots(), setting_.slots);
    EXPECT_EQ(scheduler_.free_blocks(), setting_.blocks);
    EXPECT_EQ(scheduler_.waiting_tokens(), 0);
    EXPECT_EQ(scheduler_.next_deadline(), absl::InfiniteFuture());
    for (const auto& [ticket, known] : known_) EXPECT_TRUE(known.over) << ticket;
    // Each way to end was taken often enough to mean something.
    for (const auto* way : {"stop", "length", "cancelled", "deadline"}) {
      EXPECT_GT(ends_[way], 10) << way;
    }
    if (setting_.depth > 0) return;
    ASSERT_TRUE(table_.Apply(scheduler_.DeltasOnly(PlanKind::kIdle)).ok());
    EXPECT_EQ(table_.num_open(), 0);
  }

  const Setting setting_;
  std::mt19937_64 random_;
  Scheduler scheduler_;
  SlotTable table_;
  absl::Time now_ = absl::UnixEpoch();
  bool idle_ = true;
  uint64_t next_ticket_ = 1;
  std::map<uint64_t, Known> known_;
  std::map<uint64_t, uint32_t> planned_;  // rows of a request whose results were committed
  std::map<int32_t, uint64_t> slot_owner_;
  std::map<std::string, int> ends_;
  std::vector<uint64_t> admitted_;
  std::vector<SchedulerEvent> events_;
  std::vector<StepPlan> plans_;
  std::vector<std::vector<uint64_t>> owners_;
};

class SchedulerSimulationTest : public ::testing::TestWithParam<Setting> {};

TEST_P(SchedulerSimulationTest, KeepsEveryPromise) { Simulation(GetParam()).Run(); }

INSTANTIATE_TEST_SUITE_P(Settings,
                         SchedulerSimulationTest,
                         ::testing::Values(Setting{1, 1, 8, 64, 0},
                                           Setting{2, 4, 8, 64, 0},
                                           Setting{3, 4, 200, 512, 0},
                                           Setting{4, 32, 20, 100, 0},
                                           Setting{5, 32, 300, 1000, 0},
                                           Setting{6, 4, 12, 128, 1},
                                           Setting{7, 16, 100, 256, 2}));

}  // namespace
}  // namespace deltaserve
