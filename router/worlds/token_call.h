#pragma once

// TokenCall: one Generate stream of a world, read on demand.

#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "deltaserve/v1/world.grpc.pb.h"
#include "grpcpp/grpcpp.h"

namespace deltaserve {

// Receives a stream's events, one at a time, on gRPC's threads: must not block.
class TokenObserver {
 public:
  virtual ~TokenObserver() = default;
  // The next event is read only after TokenCall::Next().
  virtual void OnEvent(const v1::TokenEvent& event) = 0;
  // The end, exactly once; nothing comes after it. An error has an ErrorDetail; of a stream that
  // broke it is WORLD_LOST.
  virtual void OnEnd(const absl::Status& status) = 0;
};

// How many TokenCalls there are. Threads: any. Owner: WorldClient and the calls.
class CallCount {
 public:
  uint32_t value() const {
    absl::MutexLock lock(&mutex_);
    return value_;
  }
  // False where `deadline` came first.
  bool AwaitNone(absl::Time deadline) const {
    absl::MutexLock lock(&mutex_);
    const auto none = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return value_ == 0; };
    return mutex_.AwaitWithDeadline(absl::Condition(&none), deadline);
  }

 private:
  friend class TokenCall;
  void Change(int by) {
    absl::MutexLock lock(&mutex_);
    value_ += static_cast<uint32_t>(by);
  }

  mutable absl::Mutex mutex_;
  uint32_t value_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Threads: any; Next and Cancel may come in every state. Owner: itself from Start() to the end,
// besides whoever holds the shared_ptr.
class TokenCall : public grpc::ClientReadReactor<v1::TokenEvent> {
 public:
  // `world`: its address, for messages. `count` counts this call from here until it is gone, and
  // with it its hold on the channel.
  static std::shared_ptr<TokenCall> Make(std::shared_ptr<v1::World::Stub> stub,
                                         std::string world,
                                         v1::TokenRequest request,
                                         absl::Time deadline,
                                         std::shared_ptr<TokenObserver> observer,
                                         std::shared_ptr<CallCount> count);

  // Sends the request and reads the first event. Once; `self` is this.
  void Start(std::shared_ptr<TokenCall> self);

  // Reads the next event. Does nothing while one is being read and after the end.
  void Next();

  // Cancels the stream; OnEnd follows. Idempotent, also before Start() and after the end.
  void Cancel();

 private:
  TokenCall(std::shared_ptr<v1::World::Stub> stub,
            std::string world,
            v1::TokenRequest request,
            absl::Time deadline,
            std::shared_ptr<TokenObserver> observer);

  void OnReadDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;
  absl::Status ToError(const grpc::Status& status) const;

  const std::shared_ptr<v1::World::Stub> stub_;
  const std::string world_;
  const v1::TokenRequest request_;
  std::shared_ptr<TokenObserver> observer_;  // until OnDone
  std::shared_ptr<TokenCall> self_;          // from Start to OnDone
  grpc::ClientContext context_;
  v1::TokenEvent event_;
  v1::TokenEvent dropped_;  // of reads after Cancel, while OnEvent may still look at event_
  absl::Mutex mutex_;
  bool reading_ ABSL_GUARDED_BY(mutex_) = true;  // the first read is Start's
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace deltaserve
