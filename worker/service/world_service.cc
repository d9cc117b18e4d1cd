#include "worker/service/world_service.h"

#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "proto/error.h"
#include "proto/grpc_status.h"
#include "worker/service/description.h"
#include "worker/service/request_reader.h"
#include "worker/service/service_streams.h"

namespace deltaserve {
namespace {

// 128 random bits: two starts of a world never share one.
std::string DrawInstanceId() {
  std::random_device device;
  std::string id;
  for (int i = 0; i < 4; ++i) absl::StrAppend(&id, absl::StrFormat("%08x", device()));
  return id;
}

// The strong references of `streams`, taken under their lock and used outside of it.
template <typename Stream>
std::vector<std::shared_ptr<Stream>> Live(
    const std::unordered_map<Stream*, std::weak_ptr<Stream>>& streams) {
  std::vector<std::shared_ptr<Stream>> live;
  live.reserve(streams.size());
  for (const auto& [unused, weak] : streams) {
    if (std::shared_ptr<Stream> stream = weak.lock()) live.push_back(std::move(stream));
  }
  return live;
}

}  // namespace

WorldService::WorldService(const WorldServerOptions& options,
                           WorldInfo info,
                           EngineHandle* engine,
                           std::function<void()> on_change)
    : options_(options),
      info_(std::move(info)),
      engine_(engine),
      on_change_(std::move(on_change)),
      instance_id_(DrawInstanceId()),
      description_(MakeDescription(info_, engine->capacity(), instance_id_)) {}

WorldService::~WorldService() = default;

void WorldService::SetReady() {
  {
    absl::MutexLock lock(&mutex_);
    phase_ = Phase::kReady;
    cause_.clear();
  }
  on_change_();
}

void WorldService::SetNotReady(const std::string& cause) {
  {
    absl::MutexLock lock(&mutex_);
    phase_ = Phase::kNotReady;
    cause_ = cause;
  }
  on_change_();
}

void WorldService::EndWatches() {
  std::vector<std::shared_ptr<WatchStream>> watches;
  {
    absl::MutexLock lock(&mutex_);
    ending_ = true;
    watches = Live(watches_);
  }
  for (const auto& watch : watches) watch->End(grpc::Status::OK);
}

void WorldService::AwaitIdle(absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  const auto idle = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return streams_.empty(); };
  mutex_.AwaitWithDeadline(absl::Condition(&idle), deadline);
}

Health WorldService::Heartbeat(absl::Time now) {
  const EngineLoad load = engine_->load();
  const v1::WorldReport report = MakeReport(load);
  Report(now, report);
  BreakStalled(now);
  return {.live = load.last_step_age <= options_.live_step_age,
          .ready = report.state() == v1::WorldReport::STATE_READY};
}

v1::WorldReport WorldService::MakeReport(const EngineLoad& load) const {
  v1::WorldReport report;
  report.set_instance_id(instance_id_);
  report.set_last_step_age_ms(static_cast<uint32_t>(absl::ToInt64Milliseconds(load.last_step_age)));
  v1::Load* numbers = report.mutable_load();
  numbers->set_running(load.running);
  numbers->set_waiting(load.waiting);
  numbers->set_waiting_tokens(load.waiting_tokens);
  numbers->set_kv_blocks_used(load.kv_blocks_used);
  numbers->set_slots_used(load.slots_used);
  numbers->set_decode_tokens_per_s(load.decode_tokens_per_s);
  numbers->set_prefill_tokens_per_s(load.prefill_tokens_per_s);
  numbers->set_requests_seen(load.requests_seen);
  absl::MutexLock lock(&mutex_);
  if (phase_ == Phase::kNotReady) {
    report.set_state(v1::WorldReport::STATE_NOT_READY);
    report.set_cause(cause_);
  } else if (engine_->draining()) {
    report.set_state(v1::WorldReport::STATE_DRAINING);
    report.set_cause("the world was asked to drain");
  } else if (phase_ == Phase::kStarting) {
    report.set_state(v1::WorldReport::STATE_STARTING);
    report.set_cause("ranks are still loading");
  } else if (load.last_step_age > options_.live_step_age) {
    report.set_state(v1::WorldReport::STATE_DEGRADED);
    report.set_cause(absl::StrCat("a step has run for ", absl::FormatDuration(load.last_step_age)));
  } else {
    report.set_state(v1::WorldReport::STATE_READY);
  }
  return report;
}

void WorldService::Report(absl::Time now, const v1::WorldReport& report) {
  std::vector<std::shared_ptr<WatchStream>> watches;
  {
    absl::MutexLock lock(&mutex_);
    watches = Live(watches_);
  }
  for (const auto& watch : watches) watch->Offer(now, report);
}

void WorldService::BreakStalled(absl::Time now) {
  std::vector<std::shared_ptr<TokenStream>> streams;
  {
    absl::MutexLock lock(&mutex_);
    streams = Live(streams_);
  }
  for (const auto& stream : streams) {
    if (stream->IsStalled(now - options_.stall_timeout, options_.max_pending_bytes)) {
      stream->Break();
    }
  }
}

grpc::ServerUnaryReactor* WorldService::Describe(grpc::CallbackServerContext* context,
                                                 const v1::DescribeRequest* /*request*/,
                                                 v1::WorldDescription* response) {
  *response = description_;
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerWriteReactor<v1::AssetChunk>* WorldService::GetTextAssets(
    grpc::CallbackServerContext* context, const v1::GetTextAssetsRequest* request) {
  const auto stream = std::make_shared<AssetStream>(context, info_.text_assets);
  stream->Own(stream);
  if (const absl::Status status = CheckModel(request->model(), info_); !status.ok()) {
    stream->End(ToGrpcStatus(status, ""));
  } else if (request->have_digest() == description_.models(0).text_digest()) {
    stream->End(grpc::Status::OK);
  } else {
    stream->Begin();
  }
  return stream.get();
}

grpc::ServerWriteReactor<v1::WorldReport>* WorldService::Watch(grpc::CallbackServerContext* context,
                                                               const v1::WatchRequest* request) {
  const auto stream = std::make_shared<WatchStream>(
      context, absl::Milliseconds(request->min_interval_ms()), [this](WatchStream* over) {
        absl::MutexLock lock(&mutex_);
        watches_.erase(over);
      });
  stream->Own(stream);
  bool ending = false;
  {
    absl::MutexLock lock(&mutex_);
    watches_[stream.get()] = stream;
    ending = ending_;
  }
  if (ending) {
    stream->End(grpc::Status::OK);
  } else {
    on_change_();  // the first report goes out at once
  }
  return stream.get();
}

grpc::ServerWriteReactor<v1::TokenEvent>* WorldService::Generate(
    grpc::CallbackServerContext* context, const v1::TokenRequest* request) {
  absl::StatusOr<Request> read = ReadRequest(*request, info_, engine_->capacity());
  if (!read.ok()) {
    if (options_.observer != nullptr) {
      options_.observer->OnRefused(DetailOf(read.status()).code());
    }
    return new RefusedStream<v1::TokenEvent>(ToGrpcStatus(read.status(), request->request_id()));
  }
  read->deadline = DeadlineOf(*context);
  const auto stream = std::make_shared<TokenStream>(context, request->request_id(), engine_,
                                                    [this](TokenStream* over) {
                                                      absl::MutexLock lock(&mutex_);
                                                      streams_.erase(over);
                                                    });
  stream->Own(stream);
  {
    absl::MutexLock lock(&mutex_);
    streams_[stream.get()] = stream;
  }
  stream->Submit(*std::move(read), stream);
  return stream.get();
}

grpc::ServerUnaryReactor* WorldService::Abort(grpc::CallbackServerContext* context,
                                              const v1::WorldAbortRequest* request,
                                              v1::WorldAbortResponse* response) {
  const std::vector<std::string> ids(request->request_ids().begin(), request->request_ids().end());
  for (std::string& id : engine_->Abort(ids)) response->add_aborted(std::move(id));
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* WorldService::Drain(grpc::CallbackServerContext* context,
                                              const v1::DrainRequest* request,
                                              v1::DrainResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (request->deadline_ms() == 0 && !request->hand_over()) {
    reactor->Finish(
        ToGrpcStatus(InvalidField("deadline_ms", "0", "nothing that runs could finish",
                                  "give the milliseconds that requests may take, or set hand_over"),
                     ""));
    return reactor;
  }
  engine_->BeginDrain(absl::Now() + absl::Milliseconds(request->deadline_ms()),
                      request->hand_over());
  on_change_();
  const EngineLoad load = engine_->load();
  response->set_left(load.running + load.waiting);
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerWriteReactor<v1::CacheEvent>* WorldService::WatchCache(
    grpc::CallbackServerContext* /*context*/, const v1::WatchCacheRequest* /*request*/) {
  return new RefusedStream<v1::CacheEvent>(
      ToGrpcStatus(UnsupportedField("WatchCache", "a call",
                                    "this version has no prefix cache; route by load alone"),
                   ""));
}

}  // namespace deltaserve
