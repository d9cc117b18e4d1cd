#include "router/service/answer_stream.h"

#include <utility>

#include "kernels/base/status_macros.h"
#include "proto/error.h"
#include "proto/grpc_status.h"

namespace deltaserve {
AnswerStream::AnswerStream(grpc::CallbackServerContext* context,
                           std::unique_ptr<Answer> answer,
                           ResolverDefaults defaults,
                           std::function<void(AnswerStream*)> on_over)
    : EventStream(context),
      answer_(std::move(answer)),
      defaults_(std::move(defaults)),
      request_id_(answer_->options().request_id().empty() ? defaults_.request_id
                                                          : answer_->options().request_id()),
      deadline_(DeadlineOf(*context)),
      on_over_(std::move(on_over)) {}

void AnswerStream::Run(const WorldRegistry& worlds, const std::shared_ptr<AnswerStream>& self) {
  {
    absl::MutexLock lock(&mutex_);
    if (is_gone_) return;
  }
  const absl::StatusOr<ChosenWorld> world = worlds.Choose(answer_->options().model());
  if (!world.ok()) return Fail(world.status());
  absl::StatusOr<v1::TokenRequest> made = answer_->Prepare(world->facts, defaults_);
  if (!made.ok()) return Fail(made.status());
  facts_ = world->facts;
  token_request_ = *std::move(made);
  if (answer_->IsOver()) {  // a resumed answer that was complete
    SendStarted();
    return SendOwnEnd(v1::FINISH_REASON_STOP);
  }
  std::shared_ptr<TokenCall> call;
  bool is_aborted = false;
  {
    absl::MutexLock lock(&mutex_);
    is_aborted = is_aborted_;
    if (!is_gone_ && !is_aborted_) {
      call = call_ = world->client->NewCall(token_request_, deadline_, self);
    }
  }
  if (is_aborted) return SendOwnEnd(v1::FINISH_REASON_CANCELLED);
  if (call != nullptr) call->Start(call);
}

void AnswerStream::Abort() {
  std::shared_ptr<TokenCall> call;
  {
    absl::MutexLock lock(&mutex_);
    is_aborted_ = true;
    call = call_;
  }
  if (call != nullptr) call->Cancel();
}

bool AnswerStream::Join(AnswerEvent* /*last*/, const AnswerEvent& /*next*/) { return false; }

void AnswerStream::OnGone() {
  std::shared_ptr<TokenCall> call;
  {
    absl::MutexLock lock(&mutex_);
    is_gone_ = true;
    call = call_;
  }
  if (call != nullptr) call->Cancel();
}

void AnswerStream::OnWritten() {
  if (wants_next_.exchange(false)) ReadNext();
}

void AnswerStream::OnOver() { on_over_(this); }

void AnswerStream::ReadNext() {
  std::shared_ptr<TokenCall> call;
  {
    absl::MutexLock lock(&mutex_);
    call = call_;
  }
  if (call != nullptr) call->Next();
}

void AnswerStream::OnEvent(const v1::TokenEvent& event) {
  absl::Status status;
  switch (event.event_case()) {
    case v1::TokenEvent::kAdmitted:
      SendStarted();
      break;
    case v1::TokenEvent::kTokens:
      status = SendTokens(event.tokens());
      if (status.ok() && answer_->IsOver()) {
        SendOwnEnd(v1::FINISH_REASON_STOP);
        OnGone();  // the world need not go on
        return;
      }
      break;
    case v1::TokenEvent::kEnded:
      SendEnded(event.ended());
      ReadNext();  // the world's stream ends by reading it to its end
      return;
    case v1::TokenEvent::kPromptScores: {
      AnswerEvents events;
      answer_->AddPromptScores(event.prompt_scores(), &events);
      SendAll(std::move(events));
      break;
    }
    case v1::TokenEvent::EVENT_NOT_SET:
      break;
  }
  if (!status.ok()) {
    Fail(status);
    OnGone();
    return;
  }
  // Whichever comes last, this or the end of the last write, asks for the next event.
  wants_next_ = true;
  if (IsIdle() && wants_next_.exchange(false)) ReadNext();
}

void AnswerStream::OnEnd(const absl::Status& status) {
  bool is_aborted = false;
  {
    absl::MutexLock lock(&mutex_);
    is_aborted = is_aborted_;
    call_ = nullptr;
  }
  if (is_aborted) {
    SendOwnEnd(v1::FINISH_REASON_CANCELLED);
  } else if (!status.ok()) {
    Fail(status);
  } else {
    v1::ErrorDetail detail;
    detail.set_code(v1::ERROR_CODE_WORLD_LOST);
    detail.set_remedy("send the request again");
    Fail(MakeError(std::move(detail),
                   "the world ended the answer without a reason; send the request again"));
  }
}

void AnswerStream::Fail(const absl::Status& status) { End(ToGrpcStatus(status, request_id_)); }

void AnswerStream::SendStarted() {
  v1::Started started;
  started.set_request_id(request_id_);
  started.set_model(facts_->model().id());
  started.set_model_fingerprint(facts_->model().weights_fingerprint());
  started.set_seed(token_request_.sampling().seed());
  started.set_prompt_tokens(static_cast<uint32_t>(token_request_.prompt_ids_size()));
  if (answer_->options().return_token_ids()) {
    *started.mutable_prompt()->mutable_ids() = token_request_.prompt_ids();
  }
  AnswerEvents events;
  answer_->Start(started, &events);
  SendAll(std::move(events));
}

absl::Status AnswerStream::SendTokens(const v1::TokenEvent::Tokens& tokens) {
  AnswerEvents events;
  DS_RETURN_IF_ERROR(answer_->Add(tokens, &events));
  SendAll(std::move(events));
  return absl::OkStatus();
}

void AnswerStream::SendFinished(v1::Finished finished, bool counts) {
  AnswerEvents events;
  answer_->Finish(std::move(finished), counts, &events);
  SendAll(std::move(events));
  End(grpc::Status::OK);
}

void AnswerStream::SendEnded(const v1::TokenEvent::Ended& ended) {
  v1::Finished finished;
  finished.set_reason(ended.reason());
  if (ended.has_match()) *finished.mutable_match() = ended.match();
  *finished.mutable_usage() = ended.usage();
  SendFinished(std::move(finished), /*counts=*/false);
}

void AnswerStream::SendOwnEnd(v1::FinishReason reason) {
  v1::Finished finished;
  finished.set_reason(reason);
  finished.mutable_usage()->set_prompt_tokens(
      static_cast<uint32_t>(token_request_.prompt_ids_size()));
  SendFinished(std::move(finished), /*counts=*/true);
}

void AnswerStream::SendAll(AnswerEvents events) {
  for (AnswerEvent& event : events) Send(std::move(event));
}

}  // namespace deltaserve
