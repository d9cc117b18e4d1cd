#include "router/service/generate_stream.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "proto/error.h"
#include "proto/grpc_status.h"
#include "proto/params_check.h"
#include "router/text/detokenizer.h"

namespace deltaserve {
namespace {

absl::StatusOr<std::vector<int32_t>> PromptIds(const v1::GenerateRequest& request,
                                               const WorldFacts& facts) {
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kText: {
      if (request.text().empty()) {
        return OutOfRange("text", "1 character or more", "an empty string", "send a prompt");
      }
      absl::StatusOr<std::vector<int32_t>> ids = facts.text->tokenizer->Encode(request.text());
      if (!ids.ok()) {
        return InvalidField("text", absl::StrCat(request.text().size(), " bytes"),
                            std::string(ids.status().message()), "send text as UTF-8");
      }
      return ids;
    }
    case v1::GenerateRequest::kTokens: {
      if (request.tokens().ids().empty()) {
        return OutOfRange("tokens", "1 id or more", "none", "send a prompt");
      }
      return ReadTokens(request.tokens(), "tokens", facts.model().num_tokens());
    }
    case v1::GenerateRequest::PROMPT_NOT_SET:
      break;
  }
  return InvalidField("prompt", "absent", "there is nothing to answer", "set text or tokens");
}

}  // namespace

GenerateStream::GenerateStream(grpc::CallbackServerContext* context,
                               v1::GenerateRequest request,
                               ResolverDefaults defaults,
                               std::function<void(GenerateStream*)> on_over)
    : EventStream(context),
      request_(std::move(request)),
      defaults_(std::move(defaults)),
      request_id_(request_.options().request_id().empty() ? defaults_.request_id
                                                          : request_.options().request_id()),
      deadline_(DeadlineOf(*context)),
      on_over_(std::move(on_over)) {}

absl::StatusOr<v1::TokenRequest> GenerateStream::MakeRequest(const WorldFacts& facts) const {
  DS_RETURN_IF_ERROR(CheckOptions(request_.options(), facts.model().num_tokens()));
  DS_ASSIGN_OR_RETURN(const std::vector<int32_t> prompt, PromptIds(request_, facts));
  return Resolve(request_.options(), prompt, facts, defaults_);
}

void GenerateStream::Run(const WorldRegistry& worlds, const std::shared_ptr<GenerateStream>& self) {
  {
    absl::MutexLock lock(&mutex_);
    if (is_gone_) return;
  }
  const absl::StatusOr<ChosenWorld> world = worlds.Choose(request_.options().model());
  if (!world.ok()) return Fail(world.status());
  absl::StatusOr<v1::TokenRequest> made = MakeRequest(*world->facts);
  if (!made.ok()) return Fail(made.status());
  facts_ = world->facts;
  token_request_ = *std::move(made);
  const v1::CallOptions& options = request_.options();
  text_.emplace(*facts_->text->tokenizer, token_request_,
                !options.has_skip_special_tokens() || options.skip_special_tokens(),
                options.return_token_ids());
  std::shared_ptr<TokenCall> call;
  bool is_aborted = false;
  {
    absl::MutexLock lock(&mutex_);
    is_aborted = is_aborted_;
    if (!is_gone_ && !is_aborted_) {
      call = call_ = world->client->NewCall(token_request_, deadline_, self);
    }
  }
  if (is_aborted) return SendAborted();
  if (call != nullptr) call->Start(call);
}

void GenerateStream::Abort() {
  std::shared_ptr<TokenCall> call;
  {
    absl::MutexLock lock(&mutex_);
    is_aborted_ = true;
    call = call_;
  }
  if (call != nullptr) call->Cancel();
}

bool GenerateStream::Join(v1::GenerateEvent* /*last*/, const v1::GenerateEvent& /*next*/) {
  return false;
}

void GenerateStream::OnGone() {
  std::shared_ptr<TokenCall> call;
  {
    absl::MutexLock lock(&mutex_);
    is_gone_ = true;
    call = call_;
  }
  if (call != nullptr) call->Cancel();
}

void GenerateStream::OnWritten() {
  if (wants_next_.exchange(false)) ReadNext();
}

void GenerateStream::OnOver() { on_over_(this); }

void GenerateStream::ReadNext() {
  std::shared_ptr<TokenCall> call;
  {
    absl::MutexLock lock(&mutex_);
    call = call_;
  }
  if (call != nullptr) call->Next();
}

void GenerateStream::OnEvent(const v1::TokenEvent& event) {
  absl::Status status;
  switch (event.event_case()) {
    case v1::TokenEvent::kAdmitted:
      SendStarted();
      break;
    case v1::TokenEvent::kTokens:
      status = SendTokens(event.tokens());
      break;
    case v1::TokenEvent::kEnded:
      SendFinished(event.ended());
      ReadNext();  // the world's stream ends by reading it to its end
      return;
    case v1::TokenEvent::kPromptScores:  // not asked for
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

void GenerateStream::OnEnd(const absl::Status& status) {
  bool is_aborted = false;
  {
    absl::MutexLock lock(&mutex_);
    is_aborted = is_aborted_;
    call_ = nullptr;
  }
  if (is_aborted) {
    SendAborted();
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

void GenerateStream::Fail(const absl::Status& status) { End(ToGrpcStatus(status, request_id_)); }

void GenerateStream::SendStarted() {
  v1::GenerateEvent event;
  v1::Started* started = event.mutable_started();
  started->set_request_id(request_id_);
  started->set_model(facts_->model().id());
  started->set_model_fingerprint(facts_->model().weights_fingerprint());
  started->set_seed(token_request_.sampling().seed());
  started->set_prompt_tokens(static_cast<uint32_t>(token_request_.prompt_ids_size()));
  if (request_.options().return_token_ids()) {
    *started->mutable_prompt()->mutable_ids() = token_request_.prompt_ids();
  }
  Send(std::move(event));
  if (!request_.echo()) return;
  v1::GenerateEvent echo;
  echo.mutable_delta()->set_first_index(text_->num_tokens());
  if (request_.prompt_case() == v1::GenerateRequest::kText) {
    echo.mutable_delta()->set_text(request_.text());
  } else {
    const std::vector<int32_t> ids(token_request_.prompt_ids().begin(),
                                   token_request_.prompt_ids().end());
    Detokenizer detokenizer(*facts_->text->tokenizer, /*skip_special_tokens=*/false);
    for (const int32_t id : ids) echo.mutable_delta()->mutable_text()->append(detokenizer.Add(id));
    echo.mutable_delta()->mutable_text()->append(detokenizer.Finish());
  }
  Send(std::move(echo));
}

absl::Status GenerateStream::SendTokens(const v1::TokenEvent::Tokens& tokens) {
  DS_ASSIGN_OR_RETURN(std::optional<v1::TextDelta> delta, text_->Add(tokens));
  if (!delta.has_value()) return absl::OkStatus();
  v1::GenerateEvent event;
  *event.mutable_delta() = *std::move(delta);
  Send(std::move(event));
  return absl::OkStatus();
}

void GenerateStream::SendFinished(const v1::TokenEvent::Ended& ended) {
  if (std::optional<v1::TextDelta> rest = text_->Finish(); rest.has_value()) {
    v1::GenerateEvent event;
    *event.mutable_delta() = *std::move(rest);
    Send(std::move(event));
  }
  v1::GenerateEvent event;
  event.mutable_finished()->set_reason(ended.reason());
  if (ended.has_match()) *event.mutable_finished()->mutable_match() = ended.match();
  *event.mutable_finished()->mutable_usage() = ended.usage();
  Send(std::move(event));
  End(grpc::Status::OK);
}

void GenerateStream::SendAborted() {
  v1::TokenEvent::Ended ended;
  ended.set_reason(v1::FINISH_REASON_CANCELLED);
  ended.mutable_usage()->set_prompt_tokens(static_cast<uint32_t>(token_request_.prompt_ids_size()));
  ended.mutable_usage()->set_completion_tokens(text_->num_tokens());
  SendFinished(ended);
}

}  // namespace deltaserve
