#pragma once

// AnswerStream: one Generate or Chat call of a client, and the world's stream that answers it.

#include <atomic>
#include <cstdint>
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

// Reads the world's next event only when all that the last one made is written, so a slow client
// slows its own stream at the world and nothing piles up here.
// Threads: Run once, on a thread that may work for long; Abort any; the rest is gRPC's. Owner:
// itself while the call lives (EventStream), the world's stream while that does.
class AnswerStream : public EventStream<AnswerEvent, grpc::ByteBuffer>, public TokenObserver {
 public:
  // `on_over` is called once, when gRPC is done with the client's call.
  AnswerStream(grpc::CallbackServerContext* context,
               std::unique_ptr<Answer> answer,
               ResolverDefaults defaults,
               std::function<void(AnswerStream*)> on_over);

  // Chooses a world, has the answer make its request and starts the world's stream; an error ends
  // the call. `self` is this.
  void Run(const WorldRegistry& worlds, const std::shared_ptr<AnswerStream>& self);

  // Ends the answer with FINISH_REASON_CANCELLED. Idempotent.
  void Abort();

  const std::string& request_id() const { return request_id_; }

 private:
  // EventStream
  bool Join(AnswerEvent* last, const AnswerEvent& next) override;
  void OnGone() override;
  void OnWritten() override;
  void OnOver() override;

  // TokenObserver
  void OnEvent(const v1::TokenEvent& event) override;
  void OnEnd(const absl::Status& status) override;

  void SendStarted();
  absl::Status SendTokens(const v1::TokenEvent::Tokens& tokens);
  void SendEnded(const v1::TokenEvent::Ended& ended);
  void SendOwnEnd(v1::FinishReason reason);
  void SendFinished(v1::Finished finished, bool counts);
  void SendAll(AnswerEvents events);
  void Fail(const absl::Status& status);
  void ReadNext();

  const std::unique_ptr<Answer> answer_;
  const ResolverDefaults defaults_;
  const std::string request_id_;
  const absl::Time deadline_;
  const std::function<void(AnswerStream*)> on_over_;

  // Set by Run before the world's stream starts, then used by one of its events at a time.
  std::shared_ptr<const WorldFacts> facts_;
  v1::TokenRequest token_request_;

  std::atomic<bool> wants_next_{false};  // an event is dealt with and the next one not asked for
  absl::Mutex mutex_;
  std::shared_ptr<TokenCall> call_ ABSL_GUARDED_BY(mutex_);
  bool is_gone_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_aborted_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace deltaserve
