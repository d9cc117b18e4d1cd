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

// Ends a session that nobody wants any more.
absl::Status Moved() { return absl::CancelledError("the world is elsewhere, or this router ends"); }

}  // namespace

WorldClient::WorldClient(const WorldClientOptions& options) : options_(options) {
  {
    absl::MutexLock lock(&mutex_);
    view_.cause = "not connected yet";
    if (options_.address_file.empty()) {
      place_ = MakePlace(options_.address);
      view_.address = options_.address;
    } else {
      view_.address = options_.address_file;
    }
  }
  thread_ = std::thread(&WorldClient::Run, this);
  if (options_.address_file.empty()) return;
  file_ = std::make_unique<AddressFile>(
      options_.address_file, options_.file_interval,
      [this](const absl::StatusOr<std::string>& address) { OnAddress(address); });
}

WorldClient::~WorldClient() {
  file_ = nullptr;
  std::vector<PlacePtr> places;
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    if (context_ != nullptr) context_->TryCancel();
    places = left_;
    if (place_ != nullptr) places.push_back(place_);
  }
  thread_.join();
  const absl::Time deadline = absl::Now() + kCallsPatience;
  for (const PlacePtr& place : places) {
    if (!place->calls->AwaitNone(deadline)) {
      LogError("world {}: {} calls have not ended after {}", place->address, place->calls->value(),
               absl::FormatDuration(kCallsPatience));
    }
  }
}

WorldClient::PlacePtr WorldClient::MakePlace(const std::string& address) {
  return std::make_shared<const Place>(
      Place{.address = address, .stub = MakeStub(address), .calls = std::make_shared<CallCount>()});
}

void WorldClient::OnAddress(const absl::StatusOr<std::string>& address) {
  PlacePtr place = address.ok() ? MakePlace(*address) : nullptr;
  absl::MutexLock lock(&mutex_);
  if (place != nullptr) {
    Move(std::move(place));
    return;
  }
  // One that is connected stays so: what it is, it says itself.
  const std::string cause(address.status().message());
  LogInfo("world {}: {}", view_.address, cause);
  if (view_.state != WorldState::kReady) view_.cause = cause;
}

void WorldClient::Move(PlacePtr place) {
  LogInfo("world {}: {} says {}", view_.address, options_.address_file, place->address);
  // Its last hold must be this one and not that of a call on one of gRPC's threads.
  if (place_ != nullptr) left_.push_back(std::move(place_));
  std::erase_if(left_, [](const PlacePtr& one) { return one->calls->value() == 0; });
  place_ = std::move(place);
  view_.address = place_->address;
  view_.state = view_.facts == nullptr ? WorldState::kConnecting : WorldState::kLost;
  view_.cause = "not connected yet";
  if (context_ != nullptr) context_->TryCancel();
}

WorldView WorldClient::View() const {
  absl::MutexLock lock(&mutex_);
  WorldView view = view_;
  if (place_ != nullptr) view.in_flight = place_->calls->value();
  if (view.state == WorldState::kReady && absl::Now() - last_report_ > options_.report_timeout) {
    view.state = WorldState::kLost;
    view.cause = absl::StrCat("no report for ", absl::FormatDuration(options_.report_timeout));
  }
  return view;
}

std::shared_ptr<TokenCall> WorldClient::NewCall(v1::TokenRequest request,
                                                absl::Time deadline,
                                                std::shared_ptr<TokenObserver> observer) {
  // Counted before a move could find the place without calls and let go of it.
  absl::MutexLock lock(&mutex_);
  return TokenCall::Make(place_->stub, place_->address, std::move(request), deadline,
                         std::move(observer), place_->calls);
}

bool WorldClient::Await(WorldState state, absl::Time deadline) const {
  absl::MutexLock lock(&mutex_);
  const auto reached = [this, state]()
                           ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return view_.state == state; };
  return mutex_.AwaitWithDeadline(absl::Condition(&reached), deadline);
}

void WorldClient::Run() {
  absl::Duration backoff = options_.least_backoff;
  PlacePtr place;
  const auto changed = [this, &place]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return stopping_ || place_ != place;
  };
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      if (place_ == nullptr) mutex_.Await(absl::Condition(&changed));
      if (stopping_) return;
      if (place_ != place) backoff = options_.least_backoff;
      place = place_;
    }
    const absl::Time began = absl::Now();
    const absl::Status status = Session(*place);
    if (absl::Now() - began > options_.most_backoff) backoff = options_.least_backoff;
    absl::MutexLock lock(&mutex_);
    if (changed()) continue;
    NoteBroken(status, backoff);
    if (!mutex_.AwaitWithTimeout(absl::Condition(&changed), backoff)) {
      backoff = std::min(2 * backoff, options_.most_backoff);
    }
  }
}

void WorldClient::NoteBroken(const absl::Status& status, absl::Duration backoff) {
  const std::string cause(status.message());
  const bool was_reached = view_.state != WorldState::kConnecting;
  if (view_.cause != cause || view_.state == WorldState::kReady) {
    LogWarning("world {}: {}; trying again every {} at most", view_.address, cause,
               absl::FormatDuration(std::max(backoff, options_.most_backoff)));
  }
  view_.state = was_reached ? WorldState::kLost : WorldState::kConnecting;
  view_.cause = cause;
}

bool WorldClient::Enter(const Place& place, grpc::ClientContext* context) {
  absl::MutexLock lock(&mutex_);
  if (stopping_ || place_.get() != &place) return false;
  context_ = context;
  return true;
}

void WorldClient::Leave() {
  absl::MutexLock lock(&mutex_);
  context_ = nullptr;
}

absl::Status WorldClient::Session(const Place& place) {
  DS_ASSIGN_OR_RETURN(std::shared_ptr<const WorldFacts> facts, Describe(place));
  const v1::ServedModel& model = facts->model();
  LogInfo("world {} serves {}: {} ranks, context {}, weights {}", place.address, model.id(),
          facts->description.layout().ranks(), model.max_context(), model.weights_fingerprint());
  {
    absl::MutexLock lock(&mutex_);
    if (place_.get() != &place) return Moved();
    view_.facts = std::move(facts);
    view_.state = WorldState::kStarting;
    view_.cause = "no report yet";
  }
  return Follow(place);
}

absl::StatusOr<std::shared_ptr<const WorldFacts>> WorldClient::Describe(const Place& place) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + options_.call_timeout));
  if (!Enter(place, &context)) return Moved();
  v1::DescribeRequest request;
  request.set_protocol_revision(kProtocolRevision);
  auto facts = std::make_shared<WorldFacts>();
  const grpc::Status status = place.stub->Describe(&context, request, &facts->description);
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
  DS_ASSIGN_OR_RETURN(facts->text, FetchText(place, model));
  return facts;
}

absl::StatusOr<std::shared_ptr<const ModelText>> WorldClient::FetchText(
    const Place& place, const v1::ServedModel& model) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + options_.assets_timeout));
  if (!Enter(place, &context)) return Moved();
  v1::GetTextAssetsRequest request;
  request.set_model(model.id());
  const auto reader = place.stub->GetTextAssets(&context, request);
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

absl::Status WorldClient::Follow(const Place& place) {
  grpc::ClientContext context;
  if (!Enter(place, &context)) return Moved();
  v1::WatchRequest request;
  request.set_min_interval_ms(
      static_cast<uint32_t>(absl::ToInt64Milliseconds(options_.report_interval)));
  const auto reader = place.stub->Watch(&context, request);
  v1::WorldReport report;
  while (reader->Read(&report)) Note(place, report);
  const grpc::Status status = reader->Finish();
  Leave();
  DS_RETURN_IF_ERROR(FromGrpcStatus(status));
  return absl::UnavailableError("it ended its reports: it is shutting down");
}

void WorldClient::Note(const Place& place, const v1::WorldReport& report) {
  absl::MutexLock lock(&mutex_);
  if (place_.get() != &place) return;  // the last words of one that was left
  const WorldState state = ToState(report.state());
  if (state != view_.state || report.cause() != view_.cause) {
    LogInfo("world {} is {}{}{}", place.address, StateName(state),
            report.cause().empty() ? "" : ": ", report.cause());
  }
  view_.state = state;
  view_.cause = report.cause();
  view_.load = report.load();
  last_report_ = absl::Now();
}

}  // namespace deltaserve
