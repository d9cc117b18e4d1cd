#include "router/worlds/world_client.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "proto/grpc_server.h"
#include "proto/grpc_status.h"
#include "proto/protocol.h"

namespace deltaserve {
namespace {

constexpr absl::Duration kCallsPatience = absl::Seconds(5);

std::shared_ptr<v1::World::Stub> MakeStub(const std::string& address) {
  return v1::World::NewStub(grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(),
                                                      ClientChannelArguments()));
}

WorldState ToState(v1::WorldReport::State state) {
  switch (state) {
    case v1::WorldReport::STATE_STARTING:
      return WorldState::kStarting;
    case v1::WorldReport::STATE_READY:
      return WorldState::kReady;
    case v1::WorldReport::STATE_DRAINING:
      return WorldState::kDraining;
    default:
      return WorldState::kLost;
  }
}

}  // namespace

WorldClient::WorldClient(const WorldClientOptions& options)
    : options_(options), stub_(MakeStub(options.address)), calls_(std::make_shared<CallCount>()) {
  {
    absl::MutexLock lock(&mutex_);
    view_.address = options_.address;
    view_.cause = "not connected yet";
  }
  thread_ = std::thread(&WorldClient::Run, this);
}

WorldClient::~WorldClient() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    if (context_ != nullptr) context_->TryCancel();
  }
  thread_.join();
  if (!calls_->AwaitNone(absl::Now() + kCallsPatience)) {
    LogError("world {}: {} calls have not ended after {}", options_.address, calls_->value(),
             absl::FormatDuration(kCallsPatience));
  }
}

WorldView WorldClient::View() const {
  absl::MutexLock lock(&mutex_);
  WorldView view = view_;
  view.in_flight = calls_->value();
  if (view.state == WorldState::kReady && absl::Now() - last_report_ > options_.report_timeout) {
    view.state = WorldState::kLost;
    view.cause = absl::StrCat("no report for ", absl::FormatDuration(options_.report_timeout));
  }
  return view;
}

std::shared_ptr<TokenCall> WorldClient::NewCall(v1::TokenRequest request,
                                                absl::Time deadline,
                                                std::shared_ptr<TokenObserver> observer) {
  return TokenCall::Make(stub_, options_.address, std::move(request), deadline, std::move(observer),
                         calls_);
}

bool WorldClient::Await(WorldState state, absl::Time deadline) const {
  absl::MutexLock lock(&mutex_);
  const auto reached = [this, state]()
                           ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return view_.state == state; };
  return mutex_.AwaitWithDeadline(absl::Condition(&reached), deadline);
}

void WorldClient::Run() {
  absl::Duration backoff = options_.least_backoff;
  const auto stopping = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return stopping_; };
  while (true) {
    const absl::Time began = absl::Now();
    const absl::Status status = Session();
    if (absl::Now() - began > options_.most_backoff) backoff = options_.least_backoff;
    absl::MutexLock lock(&mutex_);
    if (stopping_) return;
    NoteBroken(status, backoff);
    if (mutex_.AwaitWithTimeout(absl::Condition(&stopping), backoff)) return;
    backoff = std::min(2 * backoff, options_.most_backoff);
  }
}

void WorldClient::NoteBroken(const absl::Status& status, absl::Duration backoff) {
  const std::string cause(status.message());
  const bool was_reached = view_.state != WorldState::kConnecting;
  if (view_.cause != cause || view_.state == WorldState::kReady) {
    LogWarning("world {}: {}; trying again every {} at most", options_.address, cause,
               absl::FormatDuration(std::max(backoff, options_.most_backoff)));
  }
  view_.state = was_reached ? WorldState::kLost : WorldState::kConnecting;
  view_.cause = cause;
}

bool WorldClient::Enter(grpc::ClientContext* context) {
  absl::MutexLock lock(&mutex_);
  if (stopping_) return false;
  context_ = context;
  return true;
}

void WorldClient::Leave() {
  absl::MutexLock lock(&mutex_);
  context_ = nullptr;
}

absl::Status WorldClient::Session() {
  DS_ASSIGN_OR_RETURN(std::shared_ptr<const WorldFacts> facts, Describe());
  const v1::ServedModel& model = facts->model();
  LogInfo("world {} serves {}: {} ranks, context {}, weights {}", options_.address, model.id(),
          facts->description.layout().ranks(), model.max_context(), model.weights_fingerprint());
  {
    absl::MutexLock lock(&mutex_);
    view_.facts = std::move(facts);
    view_.state = WorldState::kStarting;
    view_.cause = "no report yet";
  }
  return Follow();
}

absl::StatusOr<std::shared_ptr<const WorldFacts>> WorldClient::Describe() {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + options_.call_timeout));
  if (!Enter(&context)) return absl::CancelledError("stopping");
  v1::DescribeRequest request;
  request.set_protocol_revision(kProtocolRevision);
  auto facts = std::make_shared<WorldFacts>();
  const grpc::Status status = stub_->Describe(&context, request, &facts->description);
  Leave();
  DS_RETURN_IF_ERROR(FromGrpcStatus(status));
  const v1::WorldDescription& description = facts->description;
  if (description.protocol_revision() != kProtocolRevision) {
    return absl::FailedPreconditionError(absl::StrCat(
        "it speaks protocol revision ", description.protocol_revision(), " and this router ",
        kProtocolRevision, "; run router and world of one version"));
  }
  if (description.models_size() != 1) {
    return absl::FailedPreconditionError(absl::StrCat("it serves ", description.models_size(),
                                                      " models; a router takes worlds of one"));
  }
  const v1::ServedModel& model = description.models(0);
  {
    absl::MutexLock lock(&mutex_);
    if (view_.facts != nullptr && view_.facts->text->digest == model.text_digest()) {
      facts->text = view_.facts->text;
      return facts;
    }
  }
  DS_ASSIGN_OR_RETURN(facts->text, FetchText(model));
  return facts;
}

absl::StatusOr<std::shared_ptr<const ModelText>> WorldClient::FetchText(
    const v1::ServedModel& model) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + options_.assets_timeout));
  if (!Enter(&context)) return absl::CancelledError("stopping");
  v1::GetTextAssetsRequest request;
  request.set_model(model.id());
  const auto reader = stub_->GetTextAssets(&context, request);
  std::map<std::string, std::string> files;
  v1::AssetChunk chunk;
  bool in_order = true;
  while (reader->Read(&chunk)) {
    std::string& bytes = files[chunk.name()];
    in_order = in_order && bytes.size() == chunk.offset();
    bytes += chunk.data();
  }
  const grpc::Status status = reader->Finish();
  Leave();
  DS_RETURN_IF_ERROR(FromGrpcStatus(status));
  if (!in_order) return absl::DataLossError("its text files came out of order");
  return ModelText::Make(std::move(files), model.text_digest());
}

absl::Status WorldClient::Follow() {
  grpc::ClientContext context;
  if (!Enter(&context)) return absl::CancelledError("stopping");
  v1::WatchRequest request;
  request.set_min_interval_ms(
      static_cast<uint32_t>(absl::ToInt64Milliseconds(options_.report_interval)));
  const auto reader = stub_->Watch(&context, request);
  v1::WorldReport report;
  while (reader->Read(&report)) Note(report);
  const grpc::Status status = reader->Finish();
  Leave();
  DS_RETURN_IF_ERROR(FromGrpcStatus(status));
  return absl::UnavailableError("it ended its reports: it is shutting down");
}

void WorldClient::Note(const v1::WorldReport& report) {
  absl::MutexLock lock(&mutex_);
  const WorldState state = ToState(report.state());
  if (state != view_.state || report.cause() != view_.cause) {
    LogInfo("world {} is {}{}{}", options_.address, StateName(state),
            report.cause().empty() ? "" : ": ", report.cause());
  }
  view_.state = state;
  view_.cause = report.cause();
  view_.load = report.load();
  last_report_ = absl::Now();
}

}  // namespace deltaserve
