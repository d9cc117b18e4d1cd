#include "worker/service/token_stream.h"

#include <utility>

#include "absl/time/clock.h"
#include "kernels/base/check.h"
#include "proto/grpc_status.h"

namespace deltaserve {
namespace {

v1::FinishReason ToMessage(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kCancelled:
      return v1::FINISH_REASON_CANCELLED;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

void Fill(v1::TokenLogprob* message, const TokenLogProb& score) {
  message->set_token_id(static_cast<uint32_t>(score.id));
  message->set_logprob(score.logprob);
  message->set_rank(static_cast<uint32_t>(score.rank));
  for (const auto& [id, logprob] : score.top) {
    v1::TokenLogprob::Alternative* alternative = message->add_top();
    alternative->set_token_id(static_cast<uint32_t>(id));
    alternative->set_logprob(logprob);
  }
}

// A deadline travels as the time that is left, which gRPC rounds up by at most 1% wherever a call
// is made: from the client to the router and on to here. So a client that gives up at its deadline
// is gone that much before ours, and some time passes on the way.
absl::Time EarliestExpiry(absl::Time deadline) {
  constexpr double kRounding = 0.03;
  constexpr absl::Duration kOnTheWay = absl::Milliseconds(50);
  if (deadline == absl::InfiniteFuture()) return deadline;
  return deadline - (deadline - absl::Now()) * kRounding - kOnTheWay;
}

}  // namespace

TokenStream::TokenStream(grpc::CallbackServerContext* context,
                         std::string request_id,
                         EngineHandle* engine,
                         std::function<void(TokenStream*)> on_over)
    : EventStream(context),
      request_id_(std::move(request_id)),
      engine_(engine),
      on_over_(std::move(on_over)),
      expires_(EarliestExpiry(DeadlineOf(*context))) {}

void TokenStream::Submit(Request request, const std::shared_ptr<TokenStream>& self) {
  const absl::StatusOr<uint64_t> ticket = engine_->Submit(std::move(request), self);
  if (!ticket.ok()) {
    End(ToGrpcStatus(ticket.status(), request_id_));
    return;
  }
  {
    absl::MutexLock lock(&mutex_);
    ticket_ = *ticket;
    if (!is_gone_) return;
  }
  GiveUp(*ticket);  // a write failed before the ticket was known
}

void TokenStream::GiveUp(uint64_t ticket) {
  if (absl::Now() < expires_) {
    engine_->Cancel(ticket);
  } else {
    engine_->Expire(ticket);
  }
}

void TokenStream::OnAdmitted() {
  v1::TokenEvent event;
  event.mutable_admitted();
  Send(std::move(event));
}

// Rows of logits are asked for by the offline tool alone, never by ReadRequest.
void TokenStream::OnLogits(int64_t /*position*/, std::span<const float> /*logits*/) {}

void TokenStream::OnPromptScores(int64_t first_position, std::span<const TokenLogProb> scores) {
  v1::TokenEvent event;
  v1::TokenEvent::PromptScores* page = event.mutable_prompt_scores();
  page->set_first_position(static_cast<uint32_t>(first_position));
  for (const TokenLogProb& score : scores) Fill(page->add_tokens(), score);
  Send(std::move(event));
}

void TokenStream::OnTokens(uint32_t first_index,
                           std::span<const int32_t> ids,
                           std::span<const TokenLogProb> logprobs) {
  DS_CHECK(logprobs.empty() || logprobs.size() == ids.size())
      << logprobs.size() << " logprobs of " << ids.size() << " tokens ";
  v1::TokenEvent event;
  v1::TokenEvent::Tokens* tokens = event.mutable_tokens();
  tokens->set_first_index(first_index);
  for (const int32_t id : ids) tokens->add_ids(static_cast<uint32_t>(id));
  for (const TokenLogProb& score : logprobs) Fill(tokens->add_logprobs(), score);
  Send(std::move(event));
}

void TokenStream::OnEnded(const Ended& ended) {
  v1::TokenEvent event;
  v1::TokenEvent::Ended* message = event.mutable_ended();
  message->set_reason(ToMessage(ended.reason));
  if (ended.eos_token_id.has_value()) {
    message->mutable_match()->set_eos_token_id(static_cast<uint32_t>(*ended.eos_token_id));
  } else if (ended.stop_token_id.has_value()) {
    message->mutable_match()->set_stop_token_id(static_cast<uint32_t>(*ended.stop_token_id));
  }
  message->mutable_usage()->set_prompt_tokens(ended.prompt_tokens);
  message->mutable_usage()->set_completion_tokens(ended.completion_tokens);
  Send(std::move(event));
  End(grpc::Status::OK);
}

void TokenStream::OnError(const absl::Status& status) { End(ToGrpcStatus(status, request_id_)); }

bool TokenStream::Join(v1::TokenEvent* last, const v1::TokenEvent& next) {
  if (!last->has_tokens() || !next.has_tokens()) return false;
  v1::TokenEvent::Tokens* tokens = last->mutable_tokens();
  DS_CHECK_EQ(tokens->first_index() + static_cast<uint32_t>(tokens->ids_size()),
              next.tokens().first_index());
  tokens->mutable_ids()->MergeFrom(next.tokens().ids());
  tokens->mutable_logprobs()->MergeFrom(next.tokens().logprobs());
  return true;
}

void TokenStream::OnGone() {
  std::optional<uint64_t> ticket;
  {
    absl::MutexLock lock(&mutex_);
    is_gone_ = true;
    ticket = ticket_;
  }
  if (ticket.has_value()) GiveUp(*ticket);
}

void TokenStream::OnWritten() {}

void TokenStream::OnOver() { on_over_(this); }

}  // namespace deltaserve
