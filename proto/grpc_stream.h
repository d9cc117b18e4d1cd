#pragma once

// EventStream: the answering side of one server-streaming call. The one place where writes, the
// end, cancellation and the call's lifetime meet, so that each is idempotent in every state.

#include <algorithm>
#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "google/protobuf/message_lite.h"
#include "grpcpp/grpcpp.h"

namespace deltaserve {

// A message as it goes to gRPC: itself, or serialised for a method that takes raw bytes.
inline grpc::ByteBuffer Serialised(const google::protobuf::MessageLite& message) {
  const grpc::Slice bytes(message.SerializeAsString());
  return grpc::ByteBuffer(&bytes, 1);
}

// Queues events and writes them one at a time; keeps itself alive until gRPC is done with it, so
// that others may hold it for longer and call it at any time: after the end such calls do nothing.
//
// Threads: Send, End, Break and the queries: any. The virtual functions are called on gRPC's
// threads or on the caller's of Send or End, never with the lock held; they must not block.
// Owner: itself, from Own() until gRPC's OnDone; whoever holds the shared_ptr besides.
// `Wire`: Event, or grpc::ByteBuffer where the method is a raw one.
template <typename Event, typename Wire = Event>
class EventStream : public grpc::ServerWriteReactor<Wire> {
 public:
  explicit EventStream(grpc::CallbackServerContext* context) : context_(context) {}

  // Call once, with the pointer that the handler returns to gRPC.
  void Own(std::shared_ptr<EventStream> self) { self_ = std::move(self); }

  // Queues `event`, or joins it to the last one waiting. False where the call is over or ending.
  bool Send(Event event) {
    {
      absl::MutexLock lock(&mutex_);
      if (gone_ || end_.has_value()) return false;
      waiting_bytes_ += event.ByteSizeLong();
      if (waiting_.empty() || !Join(&waiting_.back(), event)) waiting_.push_back(std::move(event));
    }
    Advance();
    return true;
  }

  // Ends the call with `status` once all that was sent is written. Only the first call counts.
  void End(grpc::Status status) {
    {
      absl::MutexLock lock(&mutex_);
      if (!end_.has_value()) end_ = std::move(status);
    }
    Advance();
  }

  // Gives the reader up: what waits is dropped and the call cancelled.
  void Break() { Lose(/*cancel=*/true); }

  // True where a write has been under way since before `then`, or more than `bytes` wait.
  bool IsStalled(absl::Time then, size_t bytes) const {
    absl::MutexLock lock(&mutex_);
    return !gone_ && writing_ && (write_start_ < then || waiting_bytes_ > bytes);
  }

  // True where nothing waits and no write is under way.
  bool IsIdle() const {
    absl::MutexLock lock(&mutex_);
    return !writing_ && waiting_.empty();
  }

 protected:
  // Adds `next` to `last`, which waits unwritten; false where they must stay apart. With the lock
  // held.
  virtual bool Join(Event* last, const Event& next) = 0;
  // The reader is gone: cancelled, past its deadline, disconnected or broken off. At most once.
  virtual void OnGone() = 0;
  // All that was sent is written and no end is set.
  virtual void OnWritten() = 0;
  // gRPC is done with the call. Exactly once, the last of these calls.
  virtual void OnOver() = 0;

 private:
  void OnWriteDone(bool ok) final {
    {
      absl::MutexLock lock(&mutex_);
      writing_ = false;
    }
    if (!ok) Lose(/*cancel=*/false);
    if (Advance()) OnWritten();
  }

  void OnCancel() final { Lose(/*cancel=*/false); }

  void OnDone() final {
    OnOver();
    const std::shared_ptr<EventStream> self = std::move(self_);  // may be the last one
  }

  void Lose(bool cancel) {
    {
      absl::MutexLock lock(&mutex_);
      if (gone_ || finished_) return;
      gone_ = true;
      losing_ = true;  // no Finish until this is done, so the call stays alive
      waiting_.clear();
      waiting_bytes_ = 0;
    }
    if (cancel) context_->TryCancel();
    OnGone();
    {
      absl::MutexLock lock(&mutex_);
      losing_ = false;
    }
    Advance();
  }

  // Starts the one next operation, outside of the lock: only who set writing_ or finished_ starts
  // one, so there is never a second. True where there is nothing to do but wait for events.
  bool Advance() {
    std::optional<grpc::Status> status;
    Event next;
    {
      absl::MutexLock lock(&mutex_);
      if (writing_ || finished_ || losing_) return false;
      if (gone_) {
        finished_ = true;
        status = grpc::Status(grpc::StatusCode::CANCELLED, "the reader is gone");
      } else if (!waiting_.empty()) {
        writing_ = true;
        next = std::move(waiting_.front());
        waiting_.pop_front();
        // What was joined is smaller than the sum of its parts: the rest goes with the last.
        waiting_bytes_ -= std::min(waiting_bytes_, next.ByteSizeLong());
        if (waiting_.empty()) waiting_bytes_ = 0;
        write_start_ = absl::Now();
      } else if (end_.has_value()) {
        finished_ = true;
        status = end_;
      } else {
        return true;
      }
    }
    if (status.has_value()) {
      this->Finish(*std::move(status));
    } else {
      if constexpr (std::is_same_v<Wire, Event>) {
        in_flight_ = std::move(next);
      } else {
        in_flight_ = Serialised(next);
      }
      this->StartWrite(&in_flight_);
    }
    return false;
  }

  grpc::CallbackServerContext* const context_;
  std::shared_ptr<EventStream> self_;
  mutable absl::Mutex mutex_;
  std::deque<Event> waiting_ ABSL_GUARDED_BY(mutex_);
  size_t waiting_bytes_ ABSL_GUARDED_BY(mutex_) = 0;  // of all in waiting_, before joins
  Wire in_flight_;                                    // belongs to gRPC while writing_
  absl::Time write_start_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool gone_ ABSL_GUARDED_BY(mutex_) = false;
  bool losing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<grpc::Status> end_ ABSL_GUARDED_BY(mutex_);
};

// The answer to a streaming call that is refused before it has a stream of its own.
// Owner: itself, until gRPC is done with it.
template <typename Event>
class RefusedStream final : public grpc::ServerWriteReactor<Event> {
 public:
  explicit RefusedStream(grpc::Status status) { this->Finish(std::move(status)); }
  void OnDone() override { delete this; }
};

// The deadline of a call; infinite where the client set none.
inline absl::Time DeadlineOf(const grpc::CallbackServerContext& context) {
  const std::chrono::system_clock::time_point deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return absl::InfiniteFuture();
  return absl::FromChrono(deadline);
}

}  // namespace deltaserve
