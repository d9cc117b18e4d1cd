#include "worker/engine/engine_observer.h"

#include "proto/error.h"

namespace deltaserve {
namespace {

struct Observation {
  SteadyTime now;
  RequestRecord& record;
  EngineObserver& observer;

  void operator()(const SchedulerEvent::Admitted& /*admitted*/) const { record.admitted = now; }
  void operator()(const SchedulerEvent::Logits& /*logits*/) const {}
  void operator()(const SchedulerEvent::PromptScores& /*scores*/) const {}
  void operator()(const SchedulerEvent::Tokens& tokens) const {
    if (record.last_token.has_value()) {
      observer.OnNextToken(absl::FromChrono(now - *record.last_token));
    } else {
      record.first_token = now;
      observer.OnFirstToken(absl::FromChrono(now - record.submitted));
    }
    record.last_token = now;
    record.generated_tokens += static_cast<uint32_t>(tokens.ids.size());
  }
  void operator()(const Ended& ended) const { End(ended.reason); }
  void operator()(const absl::Status& status) const { End(DetailOf(status).code()); }

  void End(std::variant<FinishReason, v1::ErrorCode> end) const {
    record.ended = now;
    record.end = end;
    observer.OnEnd(record);
  }
};

}  // namespace

RequestRecord StartRecord(const Request& request, SteadyTime now) {
  return {.prompt_tokens = static_cast<uint32_t>(request.prompt.size()),
          .max_tokens = request.max_tokens,
          .submitted = now};
}

void Observe(const SchedulerEvent& event,
             SteadyTime now,
             RequestRecord* record,
             EngineObserver& observer) {
  std::visit(Observation{now, *record, observer}, event.what);
}

int64_t NumTokens(const std::vector<SchedulerEvent>& events) {
  int64_t count = 0;
  for (const SchedulerEvent& event : events) {
    const auto* tokens = std::get_if<SchedulerEvent::Tokens>(&event.what);
    if (tokens != nullptr) count += static_cast<int64_t>(tokens->ids.size());
  }
  return count;
}

}  // namespace deltaserve
