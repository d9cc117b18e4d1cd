#include "tools/eval/asker.h"

#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "grpcpp/grpcpp.h"
#include "proto/grpc_status.h"

namespace deltaserve {
namespace {

ReplyEnd EndOf(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP:
    case v1::FINISH_REASON_TOOL_CALLS:
      return ReplyEnd::kStop;
    case v1::FINISH_REASON_LENGTH:
      return ReplyEnd::kLength;
    default:
      return ReplyEnd::kOther;
  }
}

// Joins the deltas of one answer.
class Joined {
 public:
  void Add(const v1::ChatDelta& delta, Reply* reply) {
    reply->content += delta.content();
    reply->reasoning += delta.reasoning();
    for (const v1::ToolCallDelta& part : delta.tool_calls()) {
      auto& [name, arguments] = calls_[part.index()];
      name += part.name();
      arguments += part.arguments_fragment();
    }
    for (const uint32_t id : delta.tokens().ids()) reply->tokens.push_back(id);
  }
  // Calls whose arguments are no JSON (an answer cut off) have null.
  void End(const v1::Finished& finished, Reply* reply) const {
    reply->end = EndOf(finished.reason());
    for (const auto& [index, call] : calls_) {
      auto arguments = nlohmann::ordered_json::parse(call.second, nullptr, false);
      if (arguments.is_discarded()) arguments = nullptr;
      reply->calls.push_back({call.first, std::move(arguments)});
    }
    const v1::StopMatch& match = finished.match();
    if (match.has_eos_token_id() && !reply->tokens.empty() &&
        reply->tokens.back() == match.eos_token_id()) {
      reply->tokens.pop_back();
    }
  }

 private:
  std::map<uint32_t, std::pair<std::string, std::string>> calls_;  // index -> name, arguments
};

Reply Ask(v1::Inference::Stub& stub, const Question& question, const AskOptions& options) {
  v1::ChatRequest request = question.request;
  v1::CallOptions* call = request.mutable_options();
  call->mutable_sampling()->set_temperature(0);
  call->mutable_stop()->set_max_tokens(options.max_tokens);
  call->set_return_token_ids(true);
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + options.timeout));
  const auto stream = stub.Chat(&context, request);
  Reply reply;
  reply.id = question.id;
  Joined joined;
  v1::ChatEvent event;
  while (stream->Read(&event)) {
    if (event.has_started()) {
      const auto& prompt = event.started().prompt().ids();
      reply.prompt.assign(prompt.begin(), prompt.end());
    }
    if (event.has_delta()) joined.Add(event.delta(), &reply);
    if (event.has_finished()) joined.End(event.finished(), &reply);
  }
  const absl::Status status = FromGrpcStatus(stream->Finish());
  if (!status.ok()) {
    reply.end = ReplyEnd::kFailed;
    reply.error = std::string(status.message());
  }
  return reply;
}

}  // namespace

std::vector<Reply> AskAll(v1::Inference::Stub& stub,
                          const std::vector<Question>& questions,
                          const AskOptions& options,
                          const std::function<void(size_t)>& done) {
  std::vector<Reply> replies(questions.size());
  std::mutex mutex;
  size_t next = 0;
  size_t finished = 0;
  const auto work = [&] {
    std::unique_lock lock(mutex);
    while (next < questions.size()) {
      const size_t index = next++;
      lock.unlock();
      Reply reply = Ask(stub, questions[index], options);
      lock.lock();
      replies[index] = std::move(reply);
      done(++finished);
    }
  };
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < options.concurrency; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  return replies;
}

}  // namespace deltaserve
