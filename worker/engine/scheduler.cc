#include "worker/engine/scheduler.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/ops.h"
#include "proto/error.h"
#include "worker/engine/engine_options.h"
#include "worker/engine/request_check.h"

namespace deltaserve {
namespace {

absl::Status DeadlinePassed(const Sequence& sequence) {
  v1::ErrorDetail detail;
  detail.set_code(v1::ERROR_CODE_DEADLINE);
  detail.set_field("deadline");
  detail.set_request_id(sequence.request.id);
  detail.set_remedy("allow more time or ask for fewer tokens");
  return MakeError(
      std::move(detail),
      absl::StrCat("the deadline passed ", sequence.slot < 0 ? "while the request waited" : "",
                   sequence.slot < 0
                       ? ""
                       : absl::StrCat("after ", sequence.num_generated, " generated tokens"),
                   "; allow more time or ask for fewer tokens"));
}

bool Contains(const std::vector<int32_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

uint8_t NumTop(const Request& request) {
  return static_cast<uint8_t>(request.logprobs.value_or(0));
}

Scoring ScoringOf(const Request& request) {
  return ScoringOf(request.sampling, !request.rules.empty(), request.logprobs.has_value());
}

// True where the tokens that a resumed request brings rule its forced exit out.
bool ExitSeen(const Request& request) {
  if (!request.forced_exit.has_value()) return false;
  const size_t counted =
      std::min<size_t>(request.generated.size(), request.forced_exit->after_tokens);
  const auto end = request.generated.begin() + static_cast<std::ptrdiff_t>(counted);
  return std::any_of(request.generated.begin(), end,
                     [&](int32_t id) { return request.forced_exit->Watches(id); });
}

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options) : blocks_(options.kv_blocks) {
  for (int64_t slot = options.slots; slot-- > 0;) {
    free_slots_.push_back(static_cast<int32_t>(slot));
  }
}

Scheduler::Order Scheduler::OrderOf(const Sequence& sequence) {
  return {-int64_t{sequence.request.priority}, sequence.due, sequence.arrival};
}

Sequence* Scheduler::Find(uint64_t ticket) {
  const auto found = sequences_.find(ticket);
  return found == sequences_.end() ? nullptr : found->second.get();
}

void Scheduler::Submit(uint64_t ticket, Request request, absl::Time now, const Speed& speed) {
  DS_CHECK_LE(BlocksFor(request), blocks_.num_blocks());
  auto owned = std::make_unique<Sequence>();
  Sequence& sequence = *owned;
  DS_CHECK(sequences_.emplace(ticket, std::move(owned)).second) << "ticket " << ticket;
  sequence.ticket = ticket;
  sequence.arrival = next_arrival_++;
  sequence.due = std::min(request.deadline, now + kPatience);
  sequence.prefill = request.prompt;
  sequence.prefill.insert(sequence.prefill.end(), request.generated.begin(),
                          request.generated.end());
  sequence.num_generated = static_cast<uint32_t>(request.generated.size());
  sequence.planned_samples = sequence.num_generated;
  sequence.request = std::move(request);
  if (sequence.request.deadline != absl::InfiniteFuture()) {
    deadlines_.emplace(sequence.request.deadline, ticket);
  }
  waiting_.emplace(OrderOf(sequence), &sequence);
  waiting_tokens_ += static_cast<int64_t>(sequence.prefill.size());
  // A resumed answer may have been complete when its world was lost.
  if (!sequence.request.generated.empty()) {
    const int32_t last = sequence.request.generated.back();
    if (EndsAt(sequence, last)) {
      events_.push_back({ticket, SchedulerEvent::Admitted{}});
      EndAfter(sequence, last);
      return;
    }
  }
  CheckDeadline(sequence, now, speed);
}

void Scheduler::CheckDeadline(const Sequence& sequence, absl::Time now, const Speed& speed) {
  const Request& request = sequence.request;
  if (request.deadline == absl::InfiniteFuture()) return;
  const absl::Duration left = request.deadline - now;
  if (left <= absl::ZeroDuration()) {
    Fail(sequence.ticket, DeadlineHadPassed(request.id));
    return;
  }
  const auto own = static_cast<int64_t>(sequence.prefill.size());
  const int64_t slots = num_running() + free_slots();
  const int64_t ahead = TokensAhead(own, AheadOf(sequence), slots);
  const int64_t new_tokens = int64_t{request.rules.min_tokens} - sequence.num_generated;
  const absl::Duration least = LeastTime(ahead + own, new_tokens, speed);
  if (least <= left) return;
  Fail(sequence.ticket, DeadlineTooSoon(request.id, left, least, own, ahead));
}

Ahead Scheduler::AheadOf(const Sequence& sequence) const {
  const Order order = OrderOf(sequence);
  Ahead ahead;
  // What is scored gets a few rows of a step, and the rest goes to whoever comes after it.
  const auto goes_first = [&order](const Order& theirs, const Request& request) {
    return theirs < order && !request.prompt_logprobs.has_value() && request.logits_at.empty();
  };
  for (const auto& [theirs, running] : running_) {
    (goes_first(theirs, running->request) ? ahead.earlier : ahead.later)
        .push_back(running->prefill_left());
  }
  for (auto it = waiting_.begin(); it != waiting_.end() && it->first < order; ++it) {
    const Sequence& waiting = *it->second;
    (goes_first(it->first, waiting.request) ? ahead.earlier : ahead.later)
        .push_back(waiting.prefill_left());
  }
  return ahead;
}

absl::Duration Scheduler::TimeToAdmission(const Speed& speed) const {
  std::vector<Remaining> remaining;
  for (const auto& [order, running] : running_) {
    remaining.push_back(
        {.prompt_tokens = running->prefill_left(),
         .new_tokens = int64_t{running->request.max_tokens} - running->planned_samples,
         .blocks = static_cast<int64_t>(running->blocks.size())});
  }
  const int64_t blocks = waiting_.empty() ? 1 : BlocksFor(waiting_.begin()->second->request);
  return TimeToRoom(remaining, free_slots(), free_blocks(), blocks, speed);
}

bool Scheduler::EndsAt(const Sequence& sequence, int32_t id) const {
  const Request& request = sequence.request;
  return (!request.ignore_eos && Contains(request.eos_token_ids, id)) ||
         Contains(request.stop_token_ids, id) || sequence.num_generated >= request.max_tokens;
}

void Scheduler::EndAfter(Sequence& sequence, int32_t id) {
  const Request& request = sequence.request;
  if (!request.ignore_eos && Contains(request.eos_token_ids, id)) {
    End(sequence, {.reason = FinishReason::kStop, .eos_token_id = id});
  } else if (Contains(request.stop_token_ids, id)) {
    End(sequence, {.reason = FinishReason::kStop, .stop_token_id = id});
  } else {
    End(sequence, {.reason = FinishReason::kLength});
  }
}

void Scheduler::End(Sequence& sequence, Ended ended) {
  ended.prompt_tokens = static_cast<uint32_t>(sequence.request.prompt.size());
  ended.completion_tokens = sequence.num_generated;
  events_.push_back({sequence.ticket, ended});
  Release(sequence);
}

void Scheduler::Release(Sequence& sequence) {
  if (sequence.slot >= 0) {
    running_.erase(OrderOf(sequence));
    closes_.push_back(sequence.slot);
    free_slots_.push_back(sequence.slot);
    blocks_.Release(sequence.blocks);
  } else {
    waiting_.erase(OrderOf(sequence));
    waiting_tokens_ -= static_cast<int64_t>(sequence.prefill.size());
  }
  const auto [first, last] = deadlines_.equal_range(sequence.request.deadline);
  for (auto it = first; it != last; ++it) {
    if (it->second != sequence.ticket) continue;
    deadlines_.erase(it);
    break;
  }
  const uint64_t ticket = sequence.ticket;
  sequences_.erase(ticket);
}

bool Scheduler::Cancel(uint64_t ticket) {
  Sequence* sequence = Find(ticket);
  if (sequence == nullptr) return false;
  End(*sequence, {.reason = FinishReason::kCancelled});
  return true;
}

bool Scheduler::Expire(uint64_t ticket) {
  const Sequence* sequence = Find(ticket);
  return sequence != nullptr && Fail(ticket, DeadlinePassed(*sequence));
}

bool Scheduler::Fail(uint64_t ticket, const absl::Status& status) {
  Sequence* sequence = Find(ticket);
  if (sequence == nullptr) return false;
  events_.push_back({ticket, status});
  Release(*sequence);
  return true;
}

void Scheduler::FailAll(const absl::Status& status) {
  std::vector<uint64_t> tickets;
  for (const auto& [ticket, sequence] : sequences_) tickets.push_back(ticket);
  std::sort(tickets.begin(), tickets.end());
  for (const uint64_t ticket : tickets) Fail(ticket, status);
}

absl::Time Scheduler::next_deadline() const {
  return deadlines_.empty() ? absl::InfiniteFuture() : deadlines_.begin()->first;
}

void Scheduler::ExpireDeadlines(absl::Time now) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    DS_CHECK(Expire(deadlines_.begin()->second)) << "a deadline of nobody";
  }
}

void Scheduler::Admit(StepPlan* plan) {
  while (!waiting_.empty() && !free_slots_.empty()) {
    Sequence& sequence = *waiting_.begin()->second;
    if (!blocks_.Allocate(BlocksFor(sequence.request), &sequence.blocks)) return;
    waiting_.erase(waiting_.begin());
    waiting_tokens_ -= static_cast<int64_t>(sequence.prefill.size());
    sequence.slot = free_slots_.back();
    free_slots_.pop_back();
    running_.emplace(OrderOf(sequence), &sequence);
    plan->opens.push_back({.slot = sequence.slot,
                           .state = sequence.slot,
                           .sampling = sequence.request.sampling,
                           .sample_index = sequence.request.sample_index,
                           .num_generated = sequence.num_generated,
                           .forced_exit = sequence.request.forced_exit.value_or(ForcedExit()),
                           .exit_seen = ExitSeen(sequence.request),
                           .rules = sequence.request.rules,
                           .num_prompt = static_cast<uint32_t>(sequence.request.prompt.size()),
                           .logprob_ids = sequence.request.logprob_ids,
                           .blocks = sequence.blocks});
    plan->state_ops.push_back({.action = StateAction::kZero, .state = sequence.slot});
    events_.push_back({sequence.ticket, SchedulerEvent::Admitted{}});
  }
}

void Scheduler::PlanDecodes(StepPlan* plan, Inflight* inflight) {
  for (const auto& [order, sequence] : running_) {
    if (!sequence->wants_decode()) continue;
    plan->decodes.push_back({.slot = sequence->slot,
                             .scoring = ScoringOf(sequence->request),
                             .num_top = NumTop(sequence->request)});
    ++sequence->planned_samples;
    inflight->sampled.push_back(sequence->ticket);
  }
}

int64_t Scheduler::ChunkLength(const Sequence& sequence, int64_t budget, int64_t logit_room) const {
  const int64_t total = static_cast<int64_t>(sequence.prefill.size());
  const int64_t start = sequence.planned_prefill;
  int64_t length = std::min(total - start, budget);
  if (start + length < total) length = length / kBlockTokens * kBlockTokens;
  while (length > 0 && LogitRowsWithin(sequence, length) > logit_room) {
    length = (length - 1) / kBlockTokens * kBlockTokens;
  }
  return length;
}

void Scheduler::PlanChunks(int64_t token_budget, StepPlan* plan, Inflight* inflight) {
  int64_t budget = std::max(token_budget, kBlockTokens);
  int64_t logit_room = kMaxLogitRows;
  std::vector<Sequence*> prompts;
  for (const auto& [order, sequence] : running_) {
    if (sequence->prefilling()) prompts.push_back(sequence);
  }
  // One chunk of 64 each as far as the budget goes; what is left lengthens the first ones.
  std::vector<int64_t> lengths;
  int64_t left = budget;
  for (const Sequence* prompt : prompts) {
    lengths.push_back(ChunkLength(*prompt, std::min(left, kBlockTokens), logit_room));
    left -= lengths.back();
    logit_room -= LogitRowsWithin(*prompt, lengths.back());
  }
  for (size_t i = 0; i < prompts.size() && left > 0; ++i) {
    const int64_t room = logit_room + LogitRowsWithin(*prompts[i], lengths[i]);
    const int64_t longer = ChunkLength(*prompts[i], lengths[i] + left, room);
    left -= longer - lengths[i];
    logit_room = room - LogitRowsWithin(*prompts[i], longer);
    lengths[i] = longer;
  }
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (lengths[i] > 0) AddChunk(*prompts[i], lengths[i], plan, inflight);
  }
}

int64_t Scheduler::ScoresWithin(const Sequence& sequence, int64_t length) {
  if (!sequence.request.prompt_logprobs.has_value()) return 0;
  const auto last = static_cast<int64_t>(sequence.request.prompt.size()) - 1;
  return std::clamp<int64_t>(last - sequence.planned_prefill, 0, length);
}

int64_t Scheduler::LogitsWithin(const Sequence& sequence, int64_t begin, int64_t length) {
  const std::vector<int64_t>& positions = sequence.request.logits_at;
  const auto first = std::lower_bound(positions.begin(), positions.end(), begin);
  return std::lower_bound(first, positions.end(), begin + length) - first;
}

int64_t Scheduler::LogitRowsWithin(const Sequence& sequence, int64_t length) {
  const int64_t scores = ScoresWithin(sequence, length);
  return scores + LogitsWithin(sequence, sequence.planned_prefill + scores, length - scores);
}

void Scheduler::AddChunk(Sequence& sequence, int64_t length, StepPlan* plan, Inflight* inflight) {
  const int64_t start = sequence.planned_prefill;
  const auto begin = sequence.prefill.begin() + start;
  PrefillChunk chunk{.slot = sequence.slot,
                     .start = static_cast<int32_t>(start),
                     .ids = std::vector<int32_t>(begin, begin + length)};
  for (int64_t left = LogitsWithin(sequence, start, length); left > 0; --left) {
    const int64_t position = sequence.request.logits_at[sequence.next_logits++];
    chunk.logit_offsets.push_back(static_cast<int32_t>(position - start));
    inflight->logits.emplace_back(sequence.ticket, position);
  }
  if (const int64_t scores = ScoresWithin(sequence, length); scores > 0) {
    chunk.score_ids.assign(begin + 1, begin + 1 + scores);
    chunk.score_top = static_cast<uint8_t>(*sequence.request.prompt_logprobs);
    inflight->pages.push_back(
        {.ticket = sequence.ticket, .first_position = start + 1, .count = scores});
  }
  sequence.planned_prefill += length;
  if (!sequence.prefilling()) {
    chunk.scoring = ScoringOf(sequence.request);
    chunk.num_top = NumTop(sequence.request);
    ++sequence.planned_samples;
    inflight->sampled.push_back(sequence.ticket);
  }
  plan->chunks.push_back(std::move(chunk));
}

std::optional<StepPlan> Scheduler::Next(absl::Time now, int64_t token_budget) {
  ExpireDeadlines(now);
  StepPlan plan;
  Inflight inflight;
  Admit(&plan);
  PlanDecodes(&plan, &inflight);
  PlanChunks(token_budget, &plan, &inflight);
  if (plan.num_rows() == 0) {
    DS_CHECK(plan.opens.empty()) << "a slot was opened for nothing";
    return std::nullopt;
  }
  plan.closes.swap(closes_);
  inflight_.push_back(std::move(inflight));
  return plan;
}

StepPlan Scheduler::DeltasOnly(PlanKind kind) {
  StepPlan plan{.kind = kind};
  plan.closes.swap(closes_);
  return plan;
}

void Scheduler::TakeToken(Sequence& sequence, int32_t id, TokenLogProb logprob) {
  SchedulerEvent::Tokens tokens{.first_index = sequence.num_generated, .ids = {id}};
  if (sequence.request.logprobs.has_value()) tokens.logprobs.push_back(std::move(logprob));
  events_.push_back({sequence.ticket, std::move(tokens)});
  ++sequence.num_generated;
  if (EndsAt(sequence, id)) EndAfter(sequence, id);
}

void Scheduler::CommitPrompts(const Inflight& inflight, StepResult* result) {
  DS_CHECK_EQ(inflight.logits.size(), result->logits.size());
  for (size_t i = 0; i < inflight.logits.size(); ++i) {
    const auto& [ticket, position] = inflight.logits[i];
    if (Find(ticket) == nullptr) continue;
    events_.push_back({ticket, SchedulerEvent::Logits{position, std::move(result->logits[i])}});
  }
  auto next = std::make_move_iterator(result->prompt_scores.begin());
  const auto end = std::make_move_iterator(result->prompt_scores.end());
  for (const Page& page : inflight.pages) {
    DS_CHECK_LE(page.count, end - next);
    const auto begin = std::exchange(next, next + page.count);
    if (Find(page.ticket) == nullptr) continue;
    events_.push_back(
        {page.ticket, SchedulerEvent::PromptScores{page.first_position, {begin, next}}});
  }
  DS_CHECK(next == end) << end - next << " scores of nobody";
}

void Scheduler::Commit(StepResult result) {
  DS_CHECK(!inflight_.empty()) << "no plan awaits a result";
  const Inflight inflight = std::move(inflight_.front());
  inflight_.pop_front();
  DS_CHECK_EQ(inflight.sampled.size(), result.ids.size());
  // Rows of requests that have ended since the plan was made are dropped.
  CommitPrompts(inflight, &result);
  result.logprobs.resize(result.ids.size());
  for (size_t i = 0; i < inflight.sampled.size(); ++i) {
    Sequence* sequence = Find(inflight.sampled[i]);
    if (sequence != nullptr) {
      TakeToken(*sequence, result.ids[i], std::move(result.logprobs[i]));
    }
  }
}

std::vector<SchedulerEvent> Scheduler::TakeEvents() { return std::exchange(events_, {}); }

}  // namespace deltaserve
