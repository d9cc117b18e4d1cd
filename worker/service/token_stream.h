#pragma once

// TokenStream: one Generate call of a world: what the engine says of a request, written to the
// router.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "deltaserve/v1/world.pb.h"
#include "proto/grpc_stream.h"
#include "worker/engine/engine.h"
#include "worker/engine/request.h"

namespace deltaserve {

// Tokens of one step travel in one message; those that wait for a slow reader are joined.
// Threads: RequestSink's on the engine thread, the rest on gRPC's. Owner: itself while the call
// lives (EventStream), the engine while the request does.
class TokenStream : public EventStream<v1::TokenEvent>, public RequestSink {
 public:
  // `on_over` is called once, when gRPC is done with the call. `engine` must live until then.
  TokenStream(grpc::CallbackServerContext* context,
              std::string request_id,
              EngineHandle* engine,
              std::function<void(TokenStream*)> on_over);

  // Queues the request at the engine, which then holds `self`; a refusal ends the call. Once.
  void Submit(Request request, const std::shared_ptr<TokenStream>& self);

  void OnAdmitted() override;
  void OnLogits(int64_t position, std::span<const float> logits) override;
  void OnPromptScores(int64_t first_position, std::span<const TokenLogProb> scores) override;
  void OnTokens(uint32_t first_index,
                std::span<const int32_t> ids,
                std::span<const TokenLogProb> logprobs) override;
  void OnEnded(const Ended& ended) override;
  void OnError(const absl::Status& status) override;

 private:
  // Ends the request whose reader is gone.
  void GiveUp(uint64_t ticket);

  bool Join(v1::TokenEvent* last, const v1::TokenEvent& next) override;
  void OnGone() override;
  void OnWritten() override;
  void OnOver() override;

  const std::string request_id_;
  EngineHandle* const engine_;
  const std::function<void(TokenStream*)> on_over_;
  const absl::Time expires_;  // a reader that leaves from here on leaves because of its deadline
  absl::Mutex mutex_;
  std::optional<uint64_t> ticket_ ABSL_GUARDED_BY(mutex_);
  bool is_gone_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace deltaserve
