#include "worker/engine/engine_loop.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "proto/error.h"
#include "worker/comm/last_words.h"

namespace deltaserve {
namespace {

absl::Status Draining(const std::string& message) {
  v1::ErrorDetail detail;
  detail.set_code(v1::ERROR_CODE_DRAINING);
  detail.set_remedy("send the request to another world");
  return MakeError(std::move(detail), message + "; send the request to another world");
}

absl::Status WorldLost(const absl::Status& cause) {
  v1::ErrorDetail detail;
  detail.set_code(v1::ERROR_CODE_WORLD_LOST);
  detail.set_remedy("send the request to another world");
  return MakeError(std::move(detail), absl::StrCat("this world has failed: ", cause.ToString()));
}

absl::Status QueueFull(int64_t waiting, int64_t max_queue, absl::Duration retry_after) {
  v1::ErrorDetail detail;
  detail.set_code(v1::ERROR_CODE_QUEUE_FULL);
  detail.set_field("max_queue");
  detail.set_value(absl::StrCat(max_queue));
  detail.set_remedy("try again later or on another world");
  detail.mutable_retry_after()->set_seconds(absl::ToInt64Seconds(retry_after));
  return MakeError(
      std::move(detail),
      absl::StrCat(waiting, " requests wait and the queue holds ", max_queue, "; try again in ",
                   absl::FormatDuration(retry_after), " or on another world"));
}

// How long until a place in the queue may be free: as long as the waiting prompts take.
absl::Duration RetryAfter(const EngineLoad& load) {
  const double rate = std::max(load.prefill_tokens_per_s, 1.0);
  const double seconds = static_cast<double>(load.waiting_tokens) / rate;
  return absl::Seconds(static_cast<int64_t>(std::clamp(seconds, 1.0, 30.0)));
}

uint64_t TokensOf(const Request& request) {
  return request.prompt.size() + request.generated.size();
}

}  // namespace

int ExitCodeOf(const absl::Status& status) {
  if (status.ok()) return 0;
  if (absl::IsInvalidArgument(status) || absl::IsResourceExhausted(status)) {
    return kExitConfiguration;
  }
  return absl::IsDataLoss(status) ? kExitDivergence : kExitWatchdog;
}

std::unique_ptr<Engine> Engine::Create(Executor& executor,
                                       PlanChannel& channel,
                                       ControlLink& link,
                                       Watchdog& watchdog) {
  return std::unique_ptr<Engine>(new Engine(executor, channel, link, watchdog));
}

Engine::Engine(Executor& executor, PlanChannel& channel, ControlLink& link, Watchdog& watchdog)
    : executor_(executor),
      watchdog_(watchdog),
      options_(executor.options()),
      runner_(executor, channel, link, watchdog),
      scheduler_({.slots = executor.capacity().slots, .kv_blocks = executor.capacity().kv_blocks}),
      budget_({.fixed = executor.options().token_budget,
               .cap = executor.token_budget_cap(),
               .target = executor.options().step_target},
              executor.probe_time()) {}

absl::StatusOr<uint64_t> Engine::Submit(Request request, std::shared_ptr<RequestSink> sink) {
  DS_RETURN_IF_ERROR(CheckRequest(request, capacity(), options_.prompt_logits));
  const absl::MutexLock lock(&mutex_);
  DS_RETURN_IF_ERROR(AdmissionLocked());
  const uint64_t ticket = next_ticket_++;
  live_.emplace(ticket, Live{request.id, std::move(sink)});
  arrived_tokens_ += TokensOf(request);
  arrivals_.push_back({ticket, std::move(request)});
  ++requests_seen_;
  return ticket;
}

absl::Status Engine::AdmissionLocked() const {
  if (draining_) return Draining("this world is draining");
  if (ended_) return WorldLost(absl::UnavailableError("its engine has ended"));
  // Whoever comes while nobody waits takes a free slot at the next step.
  const int64_t waiting = load_.waiting + static_cast<int64_t>(num_taken_ + arrivals_.size());
  const int64_t free = load_.waiting > 0 ? 0 : capacity().slots - load_.slots_used;
  if (waiting < capacity().max_queue + free) return absl::OkStatus();
  return QueueFull(waiting, capacity().max_queue, RetryAfter(load_));
}

void Engine::Cancel(uint64_t ticket) {
  const absl::MutexLock lock(&mutex_);
  if (live_.contains(ticket)) cancels_.push_back(ticket);
}

std::vector<std::string> Engine::Abort(const std::vector<std::string>& ids) {
  std::vector<std::string> found;
  const absl::MutexLock lock(&mutex_);
  for (const std::string& id : ids) {
    const size_t before = cancels_.size();
    for (const auto& [ticket, live] : live_) {
      if (live.id == id) cancels_.push_back(ticket);
    }
    if (cancels_.size() > before) found.push_back(id);
  }
  return found;
}

EngineLoad Engine::load() const {
  const absl::MutexLock lock(&mutex_);
  EngineLoad load = load_;
  load.waiting += static_cast<uint32_t>(num_taken_ + arrivals_.size());
  load.waiting_tokens += arrived_tokens_;
  load.requests_seen = requests_seen_;
  load.last_step_age = working_ ? absl::Now() - last_progress_ : absl::ZeroDuration();
  return load;
}

void Engine::BeginDrain(absl::Time deadline, bool hand_over) {
  const absl::MutexLock lock(&mutex_);
  draining_ = true;
  hand_over_ = hand_over_ || hand_over;
  drain_deadline_ = std::min(drain_deadline_, deadline);
}

bool Engine::draining() const {
  const absl::MutexLock lock(&mutex_);
  return draining_;
}

absl::Status Engine::Run() {
  absl::Status status = Loop();
  if (status.ok()) status = Stop();
  {
    const absl::MutexLock lock(&mutex_);
    ended_ = true;
    working_ = false;
  }
  if (!status.ok()) EndAll(WorldLost(status));
  watchdog_.Idle();
  return status;
}

absl::Status Engine::Loop() {
  while (true) {
    const absl::Time now = absl::Now();
    const bool draining = TakeInbox(now);
    const std::optional<StepPlan> plan = scheduler_.Next(now, budget_.tokens());
    PublishLoad();
    Dispatch(scheduler_.TakeEvents());
    if (plan.has_value()) {
      DS_RETURN_IF_ERROR(RunStep(*plan));
      continue;
    }
    // What waits can always be admitted once nothing runs.
    DS_CHECK(scheduler_.empty()) << scheduler_.num_running() << " running and "
                                 << scheduler_.num_waiting() << " waiting requests have no row";
    if (draining) return absl::OkStatus();
    if (runner_.asleep()) {
      WaitForWork(absl::InfiniteFuture());
    } else if (!WaitForWork(now + options_.idle_after)) {
      DS_RETURN_IF_ERROR(GoIdle());
    }
  }
}

bool Engine::TakeInbox(absl::Time now) {
  std::vector<Arrival> arrivals;
  std::vector<uint64_t> cancels;
  bool draining = false;
  bool end_all = false;
  {
    const absl::MutexLock lock(&mutex_);
    arrivals.swap(arrivals_);
    cancels.swap(cancels_);
    num_taken_ = arrivals.size();
    draining = draining_;
    end_all = draining_ && (hand_over_ || now >= drain_deadline_);
  }
  for (Arrival& arrival : arrivals) {
    scheduler_.Submit(arrival.ticket, std::move(arrival.request));
  }
  for (const uint64_t ticket : cancels) scheduler_.Cancel(ticket);
  if (end_all) scheduler_.FailAll(Draining("this world ended its drain before the request did"));
  return draining;
}

absl::Status Engine::RunStep(StepPlan plan) {
  const int64_t decodes = static_cast<int64_t>(plan.decodes.size());
  const int64_t prompt_rows = plan.num_chunk_rows();
  plan.predicted_ms = static_cast<uint32_t>(
      absl::ToInt64Milliseconds(std::min(budget_.Predict(prompt_rows, decodes), absl::Hours(24))));
  const absl::Time start = absl::Now();
  DS_ASSIGN_OR_RETURN(StepResult result, runner_.Run(plan));
  budget_.Record(prompt_rows, decodes, absl::Now() - start);
  scheduler_.Commit(std::move(result));
  // Load first: whoever hears of an end finds its slot free.
  PublishLoad();
  Dispatch(scheduler_.TakeEvents());
  return absl::OkStatus();
}

absl::Status Engine::GoIdle() {
  return runner_.Run(scheduler_.DeltasOnly(PlanKind::kIdle)).status();
}

absl::Status Engine::Stop() { return runner_.Run(scheduler_.DeltasOnly(PlanKind::kStop)).status(); }

bool Engine::HasWorkLocked() const { return !arrivals_.empty() || !cancels_.empty() || draining_; }

bool Engine::WaitForWork(absl::Time deadline) {
  const absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithDeadline(absl::Condition(this, &Engine::HasWorkLocked), deadline);
}

void Engine::Dispatch(const std::vector<SchedulerEvent>& events) {
  for (const SchedulerEvent& event : events) {
    const bool last = std::holds_alternative<Ended>(event.what) ||
                      std::holds_alternative<absl::Status>(event.what);
    std::shared_ptr<RequestSink> sink;
    {
      const absl::MutexLock lock(&mutex_);
      const auto found = live_.find(event.ticket);
      DS_CHECK(found != live_.end()) << "ticket " << event.ticket;
      sink = found->second.sink;
      if (last) live_.erase(found);
    }
    Deliver(*sink, event);
  }
}

void Engine::Deliver(RequestSink& sink, const SchedulerEvent& event) {
  struct Visitor {
    RequestSink& sink;
    void operator()(const SchedulerEvent::Admitted&) const { sink.OnAdmitted(); }
    void operator()(const SchedulerEvent::Logits& logits) const {
      sink.OnLogits(logits.position, logits.row);
    }
    void operator()(const SchedulerEvent::Tokens& tokens) const {
      sink.OnTokens(tokens.first_index, tokens.ids, tokens.logprobs);
    }
    void operator()(const Ended& ended) const { sink.OnEnded(ended); }
    void operator()(const absl::Status& status) const { sink.OnError(status); }
  };
  std::visit(Visitor{sink}, event.what);
}

void Engine::EndAll(const absl::Status& status) {
  absl::flat_hash_map<uint64_t, Live> live;
  {
    const absl::MutexLock lock(&mutex_);
    live.swap(live_);
    arrivals_.clear();
    cancels_.clear();
  }
  for (const auto& [ticket, request] : live) request.sink->OnError(status);
}

void Engine::PublishLoad() {
  EngineLoad load;
  load.running = static_cast<uint32_t>(scheduler_.num_running());
  load.waiting = static_cast<uint32_t>(scheduler_.num_waiting());
  load.waiting_tokens = static_cast<uint64_t>(scheduler_.waiting_tokens());
  load.kv_blocks_used = static_cast<uint32_t>(scheduler_.used_blocks());
  load.slots_used = static_cast<uint32_t>(capacity().slots - scheduler_.free_slots());
  load.decode_tokens_per_s = budget_.decode_tokens_per_s();
  load.prefill_tokens_per_s = budget_.prefill_tokens_per_s();
  const absl::MutexLock lock(&mutex_);
  load_ = load;
  num_taken_ = 0;
  arrived_tokens_ = 0;
  for (const Arrival& arrival : arrivals_) arrived_tokens_ += TokensOf(arrival.request);
  last_progress_ = absl::Now();
  working_ = !scheduler_.empty();
}

}  // namespace deltaserve
