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

uint64_t TokensOf(const Request& request) {
  return request.prompt.size() + request.generated.size();
}

QueueRoom::Need NeedOf(const Request& request) {
  return {.tokens = static_cast<int64_t>(TokensOf(request)), .blocks = BlocksFor(request)};
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
                                       Watchdog& watchdog,
                                       EngineObserver* observer) {
  return std::unique_ptr<Engine>(new Engine(executor, channel, link, watchdog, observer));
}

Engine::Engine(Executor& executor,
               PlanChannel& channel,
               ControlLink& link,
               Watchdog& watchdog,
               EngineObserver* observer)
    : executor_(executor),
      watchdog_(watchdog),
      observer_(observer),
      options_(executor.options()),
      runner_(executor, channel, link, watchdog),
      scheduler_({.slots = executor.capacity().slots, .kv_blocks = executor.capacity().kv_blocks}),
      budget_({.fixed = executor.options().token_budget,
               .cap = executor.token_budget_cap(),
               .target = executor.options().step_target},
              executor.probe_time()),
      room_({.requests = executor.options().max_queue,
             .tokens = executor.options().max_queue_tokens}) {
  room_.Reset(0, 0, capacity().slots, capacity().kv_blocks);
}

absl::StatusOr<uint64_t> Engine::Submit(Request request, std::shared_ptr<RequestSink> sink) {
  absl::StatusOr<uint64_t> ticket = Queue(std::move(request), std::move(sink));
  if (!ticket.ok() && observer_ != nullptr) {
    observer_->OnRefused(DetailOf(ticket.status()).code());
  }
  return ticket;
}

absl::StatusOr<uint64_t> Engine::Queue(Request request, std::shared_ptr<RequestSink> sink) {
  DS_RETURN_IF_ERROR(CheckRequest(request, capacity(), options_.prompt_logits));
  if (request.deadline <= absl::Now()) return DeadlineHadPassed(request.id);
  const absl::MutexLock lock(&mutex_);
  DS_RETURN_IF_ERROR(AdmissionLocked(request));
  const uint64_t ticket = next_ticket_++;
  live_.emplace(ticket, std::make_unique<Live>(
                            Live{request.id, std::move(sink), StartRecord(request, SteadyNow())}));
  arrived_tokens_ += TokensOf(request);
  room_.Add(NeedOf(request));
  arrivals_.push_back({ticket, std::move(request)});
  ++requests_seen_;
  return ticket;
}

absl::Status Engine::AdmissionLocked(const Request& request) const {
  if (draining_) return Draining("this world is draining");
  if (ended_) return WorldLost(absl::UnavailableError("its engine has ended"));
  const QueueRoom::Need need = NeedOf(request);
  if (room_.FullFor(need) == QueueRoom::Full::kNo) return absl::OkStatus();
  return room_.Refusal(need, time_to_admission_);
}

void Engine::Cancel(uint64_t ticket) {
  const absl::MutexLock lock(&mutex_);
  if (live_.contains(ticket)) cancels_.push_back(ticket);
}

void Engine::Expire(uint64_t ticket) {
  const absl::MutexLock lock(&mutex_);
  if (live_.contains(ticket)) expired_.push_back(ticket);
}

std::vector<std::string> Engine::Abort(const std::vector<std::string>& ids) {
  std::vector<std::string> found;
  const absl::MutexLock lock(&mutex_);
  for (const std::string& id : ids) {
    const size_t before = cancels_.size();
    for (const auto& [ticket, live] : live_) {
      if (live->id == id) cancels_.push_back(ticket);
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
  runner_.timer().WorkBegins(SteadyNow());
  while (true) {
    const absl::Time now = absl::Now();
    const bool draining = TakeInbox(now);
    std::optional<StepPlan> plan = scheduler_.Next(now, budget_.tokens());
    PublishLoad();
    Dispatch(scheduler_.TakeEvents());
    const bool starts = plan.has_value();
    if (starts) {
      // Else the launch would wait, and take the time of the step before for its own.
      while (!steps_.empty() && executor_.NeedsIds(*plan)) DS_RETURN_IF_ERROR(FinishStep());
      DS_RETURN_IF_ERROR(StartStep(*std::move(plan)));
    }
    const size_t ahead = runner_.observed() ? 0 : static_cast<size_t>(options_.run_ahead);
    if (starts && steps_.size() <= ahead) continue;
    if (!steps_.empty()) {
      DS_RETURN_IF_ERROR(FinishStep());
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
    runner_.timer().WorkBegins(SteadyNow());
  }
}

bool Engine::TakeInbox(absl::Time now) {
  std::vector<Arrival> arrivals;
  std::vector<uint64_t> cancels, expired;
  bool draining = false;
  bool end_all = false;
  {
    const absl::MutexLock lock(&mutex_);
    arrivals.swap(arrivals_);
    cancels.swap(cancels_);
    expired.swap(expired_);
    num_taken_ = arrivals.size();
    draining = draining_;
    end_all = draining_ && (hand_over_ || now >= drain_deadline_);
  }
  for (Arrival& arrival : arrivals) {
    scheduler_.Submit(arrival.ticket, std::move(arrival.request), now, budget_.speed());
  }
  for (const uint64_t ticket : expired) scheduler_.Expire(ticket);
  for (const uint64_t ticket : cancels) scheduler_.Cancel(ticket);
  if (end_all) scheduler_.FailAll(Draining("this world ended its drain before the request did"));
  return draining;
}

absl::Status Engine::StartStep(StepPlan plan) {
  Step step = {.prompt_rows = plan.num_chunk_rows(),
               .decodes = static_cast<int64_t>(plan.decodes.size())};
  plan.predicted_ms = static_cast<uint32_t>(absl::ToInt64Milliseconds(
      std::min(budget_.Predict(step.prompt_rows, step.decodes), absl::Hours(24))));
  const SteadyTime start = SteadyNow();
  DS_RETURN_IF_ERROR(runner_.Start(std::move(plan)));
  step.launch = SteadyNow() - start;
  steps_.push_back(step);
  return absl::OkStatus();
}

absl::Status Engine::FinishStep() {
  const SteadyTime start = SteadyNow();
  DS_ASSIGN_OR_RETURN(StepResult result, runner_.Finish());
  const Step step = steps_.front();
  steps_.pop_front();
  // Its own parts: a device that works by itself takes the second, one that does not the first.
  budget_.Record(step.prompt_rows, step.decodes,
                 absl::FromChrono(step.launch + (SteadyNow() - start)));
  scheduler_.Commit(std::move(result));
  const std::vector<SchedulerEvent> events = scheduler_.TakeEvents();
  // Load and observer first: whoever hears of an end finds its slot free and its step counted.
  PublishLoad();
  if (observer_ != nullptr) {
    observer_->OnStep({.prompt_tokens = step.prompt_rows,
                       .generated_tokens = NumTokens(events),
                       .host_time = runner_.timer().host_time(),
                       .run_time = runner_.timer().run_time()});
  }
  Dispatch(events);
  return absl::OkStatus();
}

absl::Status Engine::GoIdle() {
  return runner_.Run(scheduler_.DeltasOnly(PlanKind::kIdle)).status();
}

absl::Status Engine::Stop() { return runner_.Run(scheduler_.DeltasOnly(PlanKind::kStop)).status(); }

bool Engine::HasWorkLocked() const {
  return !arrivals_.empty() || !cancels_.empty() || !expired_.empty() || draining_;
}

bool Engine::WaitForWork(absl::Time deadline) {
  const absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithDeadline(absl::Condition(this, &Engine::HasWorkLocked), deadline);
}

void Engine::Dispatch(const std::vector<SchedulerEvent>& events) {
  if (events.empty()) return;
  const SteadyTime now = SteadyNow();
  for (const SchedulerEvent& event : events) {
    const bool last = std::holds_alternative<Ended>(event.what) ||
                      std::holds_alternative<absl::Status>(event.what);
    Live* live = nullptr;
    std::unique_ptr<Live> over;
    {
      const absl::MutexLock lock(&mutex_);
      const auto found = live_.find(event.ticket);
      DS_CHECK(found != live_.end()) << "ticket " << event.ticket;
      live = found->second.get();
      if (last) {
        over = std::move(found->second);
        live_.erase(found);
      }
    }
    // Only this thread erases, so `live` stays.
    if (observer_ != nullptr) Observe(event, now, &live->record, *observer_);
    Deliver(*live->sink, event);
  }
}

void Engine::Deliver(RequestSink& sink, const SchedulerEvent& event) {
  struct Visitor {
    RequestSink& sink;
    void operator()(const SchedulerEvent::Admitted&) const { sink.OnAdmitted(); }
    void operator()(const SchedulerEvent::Logits& logits) const {
      sink.OnLogits(logits.position, logits.row);
    }
    void operator()(const SchedulerEvent::PromptScores& scores) const {
      sink.OnPromptScores(scores.first_position, scores.tokens);
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
  absl::flat_hash_map<uint64_t, std::unique_ptr<Live>> live;
  {
    const absl::MutexLock lock(&mutex_);
    live.swap(live_);
    arrivals_.clear();
    cancels_.clear();
    expired_.clear();
  }
  const SteadyTime now = SteadyNow();
  for (const auto& [ticket, request] : live) {
    if (observer_ != nullptr) Observe({ticket, status}, now, &request->record, *observer_);
    request->sink->OnError(status);
  }
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
  const bool full = load.waiting > 0 || scheduler_.free_slots() == 0;
  const absl::Duration time_to_admission =
      full ? scheduler_.TimeToAdmission(budget_.speed()) : absl::ZeroDuration();
  const absl::MutexLock lock(&mutex_);
  load_ = load;
  time_to_admission_ = time_to_admission;
  room_.Reset(scheduler_.num_waiting(), scheduler_.waiting_tokens(), scheduler_.free_slots(),
              scheduler_.free_blocks());
  for (const Arrival& arrival : arrivals_) {
    room_.Add(NeedOf(arrival.request));
  }
  num_taken_ = 0;
  arrived_tokens_ = 0;
  for (const Arrival& arrival : arrivals_) arrived_tokens_ += TokensOf(arrival.request);
  last_progress_ = absl::Now();
  working_ = !scheduler_.empty();
}

}  // namespace deltaserve
