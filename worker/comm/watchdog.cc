#include "worker/comm/watchdog.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace deltaserve {

Watchdog::Watchdog(LastWords& last_words, WatchdogOptions options)
    : last_words_(last_words), options_(std::move(options)) {
  Idle();
  if (options_.period > absl::ZeroDuration()) thread_ = std::thread([this] { Run(); });
}

Watchdog::~Watchdog() {
  {
    const absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

void Watchdog::PhaseStarted(const char* name, absl::Duration allowed) {
  Arm(Phase::kStart, step_.load(), allowed, name);
}

void Watchdog::StepStarted(uint64_t step, absl::Duration predicted) {
  Arm(Phase::kStep, step, Allowed(predicted));
}

void Watchdog::StepFinished() { Arm(Phase::kGap, step_.load(), options_.gap); }

void Watchdog::PlanAwaited(absl::Duration predicted) {
  Arm(Phase::kGap, step_.load(), options_.gap + Allowed(predicted));
}

void Watchdog::Idle() { Arm(Phase::kIdle, step_.load(), absl::ZeroDuration()); }

absl::Duration Watchdog::Allowed(absl::Duration predicted) const {
  return std::max(options_.step_floor, options_.step_factor * predicted);
}

void Watchdog::Arm(Phase phase, uint64_t step, absl::Duration allowed, const char* name) {
  version_.fetch_add(1);
  phase_.store(phase);
  name_.store(name);
  step_.store(step);
  since_ns_.store(Now());
  allowed_ns_.store(absl::ToInt64Nanoseconds(allowed));
  version_.fetch_add(1);
}

Watchdog::Snapshot Watchdog::Read() const {
  while (true) {
    const uint64_t before = version_.load();
    const Snapshot snapshot = {.phase = phase_.load(),
                               .name = name_.load(),
                               .step = step_.load(),
                               .age_ns = Now() - since_ns_.load(),
                               .allowed_ns = allowed_ns_.load()};
    if (before % 2 == 0 && version_.load() == before) return snapshot;
  }
}

Watchdog::Health Watchdog::health() const {
  const Snapshot now = Read();
  return {.idle = now.phase == Phase::kIdle,
          .late = now.phase != Phase::kIdle && now.age_ns > now.allowed_ns,
          .step = now.step,
          .age = absl::Nanoseconds(now.age_ns)};
}

void Watchdog::Look() {
  const Snapshot now = Read();
  if (now.phase == Phase::kIdle || now.age_ns <= now.allowed_ns) return;
  const std::string age = absl::FormatDuration(absl::Milliseconds(now.age_ns / 1'000'000));
  const std::string allowed = absl::FormatDuration(absl::Milliseconds(now.allowed_ns / 1'000'000));
  if (now.phase == Phase::kStart) {
    last_words_.Die(kExitWatchdog,
                    absl::StrCat("the start, ", now.name, ", has run for ", age, ", ", allowed,
                                 " allowed: a rank hangs there, or cannot be reached"));
  } else if (now.phase == Phase::kStep) {
    last_words_.Die(kExitWatchdog, absl::StrCat("step ", now.step, " has run for ", age, ", ",
                                                allowed, " allowed"));
  } else {
    last_words_.Die(kExitWatchdog, absl::StrCat("no plan has followed step ", now.step, " for ",
                                                age, ", ", allowed, " allowed"));
  }
}

void Watchdog::Run() {
  const absl::MutexLock lock(&mutex_);
  while (!mutex_.AwaitWithTimeout(absl::Condition(&stopping_), options_.period)) {
    mutex_.Unlock();
    Look();
    mutex_.Lock();
  }
}

int64_t Watchdog::Now() const {
  if (options_.clock) return absl::ToInt64Nanoseconds(options_.clock());
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace deltaserve
