#include "router/worlds/token_call.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/error.h"
#include "proto/grpc_status.h"

namespace deltaserve {

TokenCall::TokenCall(std::shared_ptr<v1::World::Stub> stub,
                     std::string world,
                     v1::TokenRequest request,
                     absl::Time deadline,
                     std::shared_ptr<TokenObserver> observer)
    : stub_(std::move(stub)),
      world_(std::move(world)),
      request_(std::move(request)),
      observer_(std::move(observer)) {
  if (deadline != absl::InfiniteFuture()) context_.set_deadline(absl::ToChronoTime(deadline));
}

std::shared_ptr<TokenCall> TokenCall::Make(std::shared_ptr<v1::World::Stub> stub,
                                           std::string world,
                                           v1::TokenRequest request,
                                           absl::Time deadline,
                                           std::shared_ptr<TokenObserver> observer,
                                           std::shared_ptr<CallCount> count) {
  count->Change(1);
  return std::shared_ptr<TokenCall>(
      new TokenCall(std::move(stub), std::move(world), std::move(request), deadline,
                    std::move(observer)),
      [count = std::move(count)](TokenCall* call) {
        delete call;
        count->Change(-1);
      });
}

void TokenCall::Start(std::shared_ptr<TokenCall> self) {
  self_ = std::move(self);
  stub_->async()->Generate(&context_, &request_, this);
  // Reads are started from other threads than this reactor's: the hold keeps OnDone away until the
  // last read has failed.
  AddHold();
  StartCall();
  StartRead(&event_);
}

void TokenCall::Next() {
  {
    absl::MutexLock lock(&mutex_);
    if (reading_) return;
    reading_ = true;
  }
  StartRead(&event_);
}

void TokenCall::Cancel() {
  bool read = false;
  {
    absl::MutexLock lock(&mutex_);
    if (cancelled_) return;
    cancelled_ = true;
    read = !reading_;
    reading_ = true;
  }
  context_.TryCancel();
  // A failed read is what ends the hold, so there must be one under way.
  if (read) StartRead(&dropped_);
}

void TokenCall::OnReadDone(bool ok) {
  if (!ok) {
    RemoveHold();  // reading_ stays set: no read starts any more
    return;
  }
  bool drop = false;
  {
    absl::MutexLock lock(&mutex_);
    drop = cancelled_;
    reading_ = drop;
  }
  if (drop) {
    StartRead(&dropped_);
  } else {
    observer_->OnEvent(event_);
  }
}

void TokenCall::OnDone(const grpc::Status& status) {
  const std::shared_ptr<TokenCall> self = std::move(self_);
  const std::shared_ptr<TokenObserver> observer = std::move(observer_);
  observer->OnEnd(ToError(status));
}

absl::Status TokenCall::ToError(const grpc::Status& status) const {
  absl::Status error = FromGrpcStatus(status);
  if (error.ok()) return error;
  if (error.GetPayload(kErrorDetailUrl).has_value()) {
    v1::ErrorDetail detail = DetailOf(error);
    if (detail.world().empty()) detail.set_world(world_);
    return MakeError(std::move(detail), std::string(error.message()));
  }
  switch (error.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown: {
      v1::ErrorDetail detail;
      detail.set_code(v1::ERROR_CODE_WORLD_LOST);
      detail.set_world(world_);
      detail.set_remedy("send the request again");
      return MakeError(std::move(detail),
                       absl::StrCat("world ", world_, " was lost while it answered (",
                                    status.error_message(), "); send the request again"));
    }
    default: {
      v1::ErrorDetail detail = DetailOf(error);
      detail.set_world(world_);
      return MakeError(std::move(detail), std::string(error.message()));
    }
  }
}

}  // namespace deltaserve
