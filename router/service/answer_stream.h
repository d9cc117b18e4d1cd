#pragma once

// AnswerStream: one Generate or Chat call of a client, and the world's streams that answer it, one
// a choice.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "deltaserve/v1/inference.pb.h"
#include "proto/grpc_stream.h"
#include "router/service/answer.h"
#include "router/service/request_resolver.h"
#include "router/worlds/token_call.h"
#include "router/worlds/world_registry.h"

namespace deltaserve {

// Reads the next event of a world's stream only when all that was made is written, so a slow client
// slows its own streams at the world, and what waits here is at most what one event of each choice
// made. The call ends when the last choice has; the error of one ends all.
// Threads: Run once, on a thread that may work for long; Abort any; the rest is gRPC's. Owner:
// itself while the call lives (EventStream), the world's streams while these do.
class AnswerStream : public EventStream<AnswerEvent, grpc::ByteBuffer> {
 public:
  // `on_over` is called once, when gRPC is done with the client's call.
  AnswerStream(grpc::CallbackServerContext* context,
               std::unique_ptr<Answer> answer,
               ResolverDefaults defaults,
               std::function<void(AnswerStream*)> on_over);

  // Chooses a world, has the answer make its request and starts the world's streams; an error ends
  // the call. `self` is this.
  void Run(const WorldRegistry& worlds, const std::shared_ptr<AnswerStream>& self);

  // Ends every choice with FINISH_REASON_CANCELLED. Idempotent.
  void Abort();

  const std::string& request_id() const { return request_id_; }
  // Answers that the client asked for, within what is legal. Any thread.
  uint32_t num_choices() const {
    return std::clamp(NumChoices(answer_->options()), 1U, kMaxChoices);
  }

 private:
  // Hears the world's stream of one choice.
  struct Choice final : public TokenObserver {
    Choice(AnswerStream* its_stream, uint32_t its_index) : stream(its_stream), index(its_index) {}
    void OnEvent(const v1::TokenEvent& event) override { stream->OnEvent(event, this); }
    void OnEnd(const absl::Status& status) override { stream->OnEnd(status, index); }

    AnswerStream* const stream;
    const uint32_t index;
    std::atomic<bool> wants_next{false};  // an event is dealt with and the next one not asked for
  };

  // EventStream
  bool Join(AnswerEvent* last, const AnswerEvent& next) override;
  void OnGone() override;
  void OnWritten() override;
  void OnOver() override;

  void OnEvent(const v1::TokenEvent& event, Choice* choice);
  void OnEnd(const absl::Status& status, uint32_t choice);

  // Makes the world's stream of every choice; none where the call is over already.
  std::vector<std::shared_ptr<TokenCall>> MakeCalls(WorldClient* world,
                                                    const std::shared_ptr<AnswerStream>& self);
  // Each does nothing where the choice has finished.
  absl::Status SendTokens(uint32_t choice, const v1::TokenEvent::Tokens& tokens)
      ABSL_LOCKS_EXCLUDED(answer_mutex_);
  void SendEnded(uint32_t choice, const v1::TokenEvent::Ended& ended)
      ABSL_LOCKS_EXCLUDED(answer_mutex_);
  void SendOwnEnd(uint32_t choice, v1::FinishReason reason) ABSL_LOCKS_EXCLUDED(answer_mutex_);
  // Once for all choices.
  void SendStarted() ABSL_LOCKS_EXCLUDED(answer_mutex_);
  void SendFinished(v1::Finished finished, bool counts)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(answer_mutex_);
  void SendAll(AnswerEvents events) ABSL_EXCLUSIVE_LOCKS_REQUIRED(answer_mutex_);
  bool IsFinished(uint32_t choice) const ABSL_LOCKS_EXCLUDED(answer_mutex_);

  void Fail(const absl::Status& status);
  std::shared_ptr<TokenCall> CallOf(uint32_t choice) const;
  void ReadNext(uint32_t choice);
  void CancelAll();

  const std::unique_ptr<Answer> answer_;
  const ResolverDefaults defaults_;
  const std::string request_id_;
  const absl::Time deadline_;
  const std::function<void(AnswerStream*)> on_over_;

  // Set by Run before anything is sent, then only read.
  std::shared_ptr<const WorldFacts> facts_;
  v1::TokenRequest token_request_;  // of choice 0
  std::deque<Choice> choices_;

  // One choice at a time has the answer make events and sends them: Started stands before all.
  // Nothing that is called with it held calls back into this object.
  mutable absl::Mutex answer_mutex_;
  bool is_started_ ABSL_GUARDED_BY(answer_mutex_) = false;
  std::vector<bool> is_finished_ ABSL_GUARDED_BY(answer_mutex_);  // of each choice
  size_t num_left_ ABSL_GUARDED_BY(answer_mutex_) = 0;            // that have not finished

  mutable absl::Mutex mutex_;
  // Of each choice, until its end; empty before Run.
  std::vector<std::shared_ptr<TokenCall>> calls_ ABSL_GUARDED_BY(mutex_);
  bool is_gone_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_aborted_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace deltaserve
