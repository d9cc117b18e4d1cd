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
  for (uint32_t i = 0; i < num_choices(); ++i) choices_.emplace_back(this, i);
  bool is_over = false;
  {
    absl::MutexLock lock(&answer_mutex_);
    is_finished_.resize(choices_.size());
    num_left_ = choices_.size();
    is_over = answer_->IsOver(0);
  }
  if (is_over) {  // a resumed answer that was complete
    SendStarted();
    return SendOwnEnd(0, v1::FINISH_REASON_STOP);
  }
  for (const auto& call : MakeCalls(world->client, self)) call->Start(call);
}

std::vector<std::shared_ptr<TokenCall>> AnswerStream::MakeCalls(
    WorldClient* world, const std::shared_ptr<AnswerStream>& self) {
  std::vector<std::shared_ptr<TokenCall>> calls;
  v1::TokenRequest request = token_request_;
  for (Choice& choice : choices_) {
    request.set_sample_index(token_request_.sample_index() + choice.index);
    // The call holds the choice, and with it the stream that has it.
    calls.push_back(
        world->NewCall(request, deadline_, std::shared_ptr<TokenObserver>(self, &choice)));
    request.mutable_output()->clear_prompt_logprobs();  // choice 0 tells them for all
  }
  {
    absl::MutexLock lock(&mutex_);
    if (is_gone_) return {};
    if (!is_aborted_) return calls_ = std::move(calls);
  }
  for (const Choice& choice : choices_) SendOwnEnd(choice.index, v1::FINISH_REASON_CANCELLED);
  return {};
}

void AnswerStream::Abort() {
  {
    absl::MutexLock lock(&mutex_);
    is_aborted_ = true;
  }
  CancelAll();
}

bool AnswerStream::Join(AnswerEvent* /*last*/, const AnswerEvent& /*next*/) { return false; }

void AnswerStream::OnGone() {
  {
    absl::MutexLock lock(&mutex_);
    is_gone_ = true;
  }
  CancelAll();
}

void AnswerStream::OnWritten() {
  for (Choice& choice : choices_) {
    if (choice.wants_next.exchange(false)) ReadNext(choice.index);
  }
}

void AnswerStream::OnOver() { on_over_(this); }

std::shared_ptr<TokenCall> AnswerStream::CallOf(uint32_t choice) const {
  absl::MutexLock lock(&mutex_);
  return calls_[choice];
}

void AnswerStream::ReadNext(uint32_t choice) {
  if (const auto call = CallOf(choice); call != nullptr) call->Next();
}

void AnswerStream::CancelAll() {
  std::vector<std::shared_ptr<TokenCall>> calls;
  {
    absl::MutexLock lock(&mutex_);
    calls = calls_;
  }
  for (const auto& call : calls) {
    if (call != nullptr) call->Cancel();
  }
}

void AnswerStream::OnEvent(const v1::TokenEvent& event, Choice* choice) {
  absl::Status status;
  switch (event.event_case()) {
    case v1::TokenEvent::kAdmitted:
      SendStarted();
      break;
    case v1::TokenEvent::kTokens:
      status = SendTokens(choice->index, event.tokens());
      if (status.ok() && IsFinished(choice->index)) {  // the text itself has ended it
        if (const auto call = CallOf(choice->index); call != nullptr) call->Cancel();
        return;
      }
      break;
    case v1::TokenEvent::kEnded:
      SendEnded(choice->index, event.ended());
      ReadNext(choice->index);  // the world's stream ends by reading it to its end
      return;
    case v1::TokenEvent::kPromptScores: {
      absl::MutexLock lock(&answer_mutex_);
      AnswerEvents events;
      answer_->AddPromptScores(event.prompt_scores(), &events);
      SendAll(std::move(events));
      break;
    }
    case v1::TokenEvent::EVENT_NOT_SET:
      break;
  }
  if (!status.ok()) return Fail(status);
  // Whichever comes last, this or the end of the last write, asks for the next event.
  choice->wants_next = true;
  if (IsIdle() && choice->wants_next.exchange(false)) ReadNext(choice->index);
}

void AnswerStream::OnEnd(const absl::Status& status, uint32_t choice) {
  bool is_aborted = false;
  {
    absl::MutexLock lock(&mutex_);
    is_aborted = is_aborted_;
    calls_[choice] = nullptr;
  }
  if (IsFinished(choice)) return;
  if (is_aborted) {
    SendOwnEnd(choice, v1::FINISH_REASON_CANCELLED);
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

void AnswerStream::Fail(const absl::Status& status) {
  End(ToGrpcStatus(status, request_id_));
  CancelAll();  // the world need not go on
}

bool AnswerStream::IsFinished(uint32_t choice) const {
  absl::MutexLock lock(&answer_mutex_);
  return is_finished_[choice];
}

void AnswerStream::SendStarted() {
  absl::MutexLock lock(&answer_mutex_);
  if (is_started_) return;
  is_started_ = true;
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

absl::Status AnswerStream::SendTokens(uint32_t choice, const v1::TokenEvent::Tokens& tokens) {
  {
    absl::MutexLock lock(&answer_mutex_);
    if (is_finished_[choice]) return absl::OkStatus();
    AnswerEvents events;
    DS_RETURN_IF_ERROR(answer_->Add(choice, tokens, &events));
    SendAll(std::move(events));
    if (!answer_->IsOver(choice)) return absl::OkStatus();
  }
  SendOwnEnd(choice, v1::FINISH_REASON_STOP);
  return absl::OkStatus();
}

void AnswerStream::SendEnded(uint32_t choice, const v1::TokenEvent::Ended& ended) {
  v1::Finished finished;
  finished.set_choice(choice);
  finished.set_reason(ended.reason());
  if (ended.has_match()) *finished.mutable_match() = ended.match();
  *finished.mutable_usage() = ended.usage();
  absl::MutexLock lock(&answer_mutex_);
  SendFinished(std::move(finished), /*counts=*/false);
}

void AnswerStream::SendOwnEnd(uint32_t choice, v1::FinishReason reason) {
  v1::Finished finished;
  finished.set_choice(choice);
  finished.set_reason(reason);
  finished.mutable_usage()->set_prompt_tokens(
      static_cast<uint32_t>(token_request_.prompt_ids_size()));
  absl::MutexLock lock(&answer_mutex_);
  SendFinished(std::move(finished), /*counts=*/true);
}

void AnswerStream::SendFinished(v1::Finished finished, bool counts) {
  const uint32_t choice = finished.choice();
  if (is_finished_[choice]) return;
  is_finished_[choice] = true;
  AnswerEvents events;
  answer_->Finish(std::move(finished), counts, &events);
  SendAll(std::move(events));
  if (--num_left_ == 0) End(grpc::Status::OK);
}

void AnswerStream::SendAll(AnswerEvents events) {
  for (AnswerEvent& event : events) Send(std::move(event));
}

}  // namespace deltaserve
