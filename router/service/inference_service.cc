#include "router/service/inference_service.h"

#include <random>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/base/status_macros.h"
#include "proto/error.h"
#include "proto/grpc_status.h"
#include "proto/params_check.h"
#include "router/service/answer_parts.h"
#include "router/service/chat_answer.h"
#include "router/service/chat_request.h"
#include "router/service/generate_answer.h"
#include "router/service/request_resolver.h"
#include "router/service/request_text.h"
#include "router/text/detokenizer.h"
#include "router/text/reasoning_splitter.h"

namespace deltaserve {
namespace {

constexpr size_t kMaxWaitingTasks = 1024;

uint64_t Draw64() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

absl::Status Draining() {
  v1::ErrorDetail detail;
  detail.set_code(v1::ERROR_CODE_DRAINING);
  detail.set_remedy("send the request to another router");
  return MakeError(std::move(detail),
                   "this router is shutting down; send the request to another one");
}

absl::Status Busy() {
  v1::ErrorDetail detail;
  detail.set_code(v1::ERROR_CODE_QUEUE_FULL);
  detail.set_remedy("try again in a second");
  detail.mutable_retry_after()->set_seconds(1);
  return MakeError(std::move(detail),
                   absl::StrCat("more than ", kMaxWaitingTasks,
                                " requests wait to be tokenised; try again in a second"));
}

// `bytes` as a message. Errors: INVALID_FIELD where they are none, or hold text that is not UTF-8.
template <typename Message>
absl::Status Read(const grpc::ByteBuffer& bytes, Message* message) {
  grpc::ByteBuffer taken(bytes);
  if (grpc::SerializationTraits<Message>::Deserialize(&taken, message).ok()) {
    return absl::OkStatus();
  }
  if (grpc::Slice slice; bytes.DumpToSingleSlice(&slice).ok()) {
    const std::string_view all(reinterpret_cast<const char*>(slice.begin()), slice.size());
    if (const auto bad = FindTextNotUtf8(all, *message->GetDescriptor())) {
      return InvalidField(bad->field, bad->value, "it is not UTF-8", "send text as UTF-8");
    }
  }
  return InvalidField("request", absl::StrCat(bytes.Length(), " bytes"),
                      absl::StrCat("it is no ", message->GetTypeName()),
                      "send what the service's .proto says");
}

// The model that a request names, itself or in its conversation. Errors: INVALID_FIELD where these
// are two.
absl::StatusOr<std::string> ModelToTokenize(const v1::TokenizeRequest& request) {
  const std::string& of_chat = request.chat().options().model();
  if (request.model().empty()) return of_chat;
  if (of_chat.empty() || of_chat == request.model()) return request.model();
  return InvalidField("chat.options.model", of_chat,
                      absl::StrCat("model is ", ErrorText(request.model(), kMostErrorValueBytes)),
                      "name one model, or leave one of them out");
}

}  // namespace

InferenceService::InferenceService(const RouterServerOptions& options, const WorldRegistry* worlds)
    : options_(options), worlds_(worlds), queue_(options.tokenizer_threads, kMaxWaitingTasks) {}

InferenceService::~InferenceService() = default;

std::vector<std::shared_ptr<AnswerStream>> InferenceService::Streams() const {
  absl::MutexLock lock(&mutex_);
  std::vector<std::shared_ptr<AnswerStream>> streams;
  for (const auto& [unused, weak] : streams_) {
    if (auto stream = weak.lock()) streams.push_back(std::move(stream));
  }
  return streams;
}

Health InferenceService::Heartbeat(absl::Time now) {
  for (const auto& stream : Streams()) {
    const size_t bytes = options_.max_pending_bytes * stream->num_choices();
    if (stream->IsStalled(now - options_.stall_timeout, bytes)) {
      stream->Break();
    }
  }
  return {.live = true, .ready = !draining_ && worlds_->IsReady()};
}

void InferenceService::BeginDrain() { draining_ = true; }

bool InferenceService::AwaitIdle(absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  const auto idle = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return streams_.empty(); };
  return mutex_.AwaitWithDeadline(absl::Condition(&idle), deadline);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* InferenceService::Generate(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes) {
  v1::GenerateRequest request;
  if (const absl::Status status = Read(*bytes, &request); !status.ok()) {
    return new RefusedStream<grpc::ByteBuffer>(ToGrpcStatus(status, ""));
  }
  return Stream(context, "gen", std::make_unique<GenerateAnswer>(std::move(request)));
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* InferenceService::Chat(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes) {
  v1::ChatRequest request;
  if (const absl::Status status = Read(*bytes, &request); !status.ok()) {
    return new RefusedStream<grpc::ByteBuffer>(ToGrpcStatus(status, ""));
  }
  return Stream(context, "chat", std::make_unique<ChatAnswer>(std::move(request)));
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* InferenceService::Stream(
    grpc::CallbackServerContext* context, const char* id_prefix, std::unique_ptr<Answer> answer) {
  ResolverDefaults defaults{.max_tokens = options_.default_max_tokens,
                            .seed = Draw64(),
                            .request_id = absl::StrFormat("%s-%016x", id_prefix, Draw64())};
  const auto stream = std::make_shared<AnswerStream>(
      context, std::move(answer), std::move(defaults), [this](AnswerStream* over) {
        absl::MutexLock lock(&mutex_);
        streams_.erase(over);
      });
  stream->Own(stream);
  {
    absl::MutexLock lock(&mutex_);
    streams_[stream.get()] = stream;
  }
  if (draining_) {
    stream->End(ToGrpcStatus(Draining(), stream->request_id()));
  } else if (!queue_.Post([this, stream] { stream->Run(*worlds_, stream); })) {
    stream->End(ToGrpcStatus(Busy(), stream->request_id()));
  }
  return stream.get();
}

grpc::ServerUnaryReactor* InferenceService::Reply(grpc::CallbackServerContext* context,
                                                  std::function<absl::Status()> work) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const bool posted = queue_.Post([context, reactor, work = std::move(work)] {
    // Nobody waits for the answer to a call that was cancelled while it stood in the queue.
    reactor->Finish(context->IsCancelled() ? grpc::Status::CANCELLED : ToGrpcStatus(work(), ""));
  });
  if (!posted) reactor->Finish(ToGrpcStatus(Busy(), ""));
  return reactor;
}

grpc::ServerUnaryReactor* InferenceService::Tokenize(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* bytes,
                                                     grpc::ByteBuffer* response) {
  return Reply(context, [this, bytes, response]() -> absl::Status {
    v1::TokenizeRequest request;
    DS_RETURN_IF_ERROR(Read(*bytes, &request));
    v1::TokenizeResponse tokens;
    DS_RETURN_IF_ERROR(TokenizeNow(request, &tokens));
    *response = Serialised(tokens);
    return absl::OkStatus();
  });
}

absl::Status InferenceService::TokenizeNow(const v1::TokenizeRequest& request,
                                           v1::TokenizeResponse* response) const {
  if (request.input_case() == v1::TokenizeRequest::INPUT_NOT_SET) {
    return InvalidField("input", "absent", "there is nothing to tokenise", "set text or chat");
  }
  if (request.add_special_tokens()) {
    return UnsupportedField("add_special_tokens", "true",
                            "no tokenizer that is served adds tokens to a text; leave it out");
  }
  DS_ASSIGN_OR_RETURN(const std::string model, ModelToTokenize(request));
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const WorldFacts> facts, worlds_->Facts(model));
  const Tokenizer& tokenizer = *facts->text->tokenizer;
  std::string text = request.text();
  if (request.has_chat()) {
    DS_RETURN_IF_ERROR(CheckOptions(request.chat().options(), facts->model().num_tokens()));
    DS_ASSIGN_OR_RETURN(const ChatCall call, ReadChatRequest(request.chat()));
    DS_ASSIGN_OR_RETURN(text, RenderChat(call, *facts));
    if (request.chat().has_thinking_budget() && !EndsInsideReasoning(text)) {
      return InvalidField("thinking_budget", absl::StrCat(request.chat().thinking_budget()),
                          "the prompt does not open a block of reasoning",
                          "leave it out, or turn thinking on in template_args_json");
    }
    response->set_rendered(text);
  }
  DS_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                      EncodeField(tokenizer, text, request.has_chat() ? "chat" : "text"));
  response->mutable_tokens();
  for (const int32_t id : ids) {
    response->mutable_tokens()->add_ids(static_cast<uint32_t>(id));
    response->add_pieces(std::string(tokenizer.TokenBytes(id)));
  }
  response->set_max_context(facts->model().max_context());
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* bytes,
                                                       grpc::ByteBuffer* response) {
  return Reply(context, [this, bytes, response]() -> absl::Status {
    v1::DetokenizeRequest request;
    DS_RETURN_IF_ERROR(Read(*bytes, &request));
    v1::DetokenizeResponse text;
    DS_RETURN_IF_ERROR(DetokenizeNow(request, &text));
    *response = Serialised(text);
    return absl::OkStatus();
  });
}

absl::Status InferenceService::DetokenizeNow(const v1::DetokenizeRequest& request,
                                             v1::DetokenizeResponse* response) const {
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const WorldFacts> facts,
                      worlds_->Facts(request.model()));
  const Tokenizer& tokenizer = *facts->text->tokenizer;
  DS_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                      ReadTokens(request.tokens(), "tokens", facts->model().num_tokens()));
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!tokenizer.HasToken(ids[i])) {
      return InvalidField(absl::StrCat("tokens[", i, "]"), absl::StrCat(ids[i]),
                          "the vocabulary has no such token", "leave it out");
    }
  }
  const bool skip = !request.has_skip_special_tokens() || request.skip_special_tokens();
  DS_ASSIGN_OR_RETURN(*response->mutable_text(), Decode(tokenizer, ids, skip));
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* InferenceService::ListModels(grpc::CallbackServerContext* context,
                                                       const v1::ListModelsRequest* /*request*/,
                                                       v1::ListModelsResponse* response) {
  std::unordered_map<std::string, v1::ListModelsResponse::Model*> by_id;
  for (const WorldView& view : worlds_->Views()) {
    if (view.facts == nullptr) continue;
    const v1::ServedModel& served = view.facts->model();
    v1::ListModelsResponse::Model*& model = by_id[served.id()];
    if (model == nullptr) {
      model = response->add_models();
      model->set_id(served.id());
      model->set_fingerprint(served.weights_fingerprint());
      model->set_max_context(served.max_context());
      model->set_generation_defaults_json(served.generation_defaults_json());
      *model->mutable_capabilities() = served.capabilities();
    }
    if (view.state == WorldState::kReady) model->set_worlds_ready(model->worlds_ready() + 1);
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* InferenceService::Abort(grpc::CallbackServerContext* context,
                                                  const grpc::ByteBuffer* bytes,
                                                  grpc::ByteBuffer* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  v1::AbortRequest request;
  if (const absl::Status status = Read(*bytes, &request); !status.ok()) {
    reactor->Finish(ToGrpcStatus(status, ""));
    return reactor;
  }
  const std::set<std::string> ids(request.request_ids().begin(), request.request_ids().end());
  std::set<std::string> aborted;
  for (const auto& stream : Streams()) {
    if (!ids.contains(stream->request_id())) continue;
    stream->Abort();
    aborted.insert(stream->request_id());
  }
  v1::AbortResponse told;
  for (const std::string& id : aborted) told.add_aborted(id);
  *response = Serialised(told);
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace deltaserve
