#pragma once

// WorldService: the World service of rank 0 over an EngineHandle. It owns no thread: WorldServer
// calls Heartbeat.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "deltaserve/v1/world.grpc.pb.h"
#include "proto/grpc_server.h"
#include "proto/grpc_stream.h"
#include "worker/engine/engine.h"
#include "worker/service/token_stream.h"
#include "worker/service/world_info.h"
#include "worker/service/world_server.h"

namespace deltaserve {

class WatchStream;

// Threads: any. Owner: WorldServer; it outlives the gRPC server.
class WorldService final : public v1::World::CallbackService {
 public:
  // `on_change` asks for a Heartbeat soon; any thread.
  WorldService(const WorldServerOptions& options,
               WorldInfo info,
               EngineHandle* engine,
               std::function<void()> on_change);
  ~WorldService() override;

  void SetReady();
  void SetNotReady(const std::string& cause);

  // What is due at `now`: reports to watchers, stalled streams broken off. The health that results.
  Health Heartbeat(absl::Time now);

  // Ends the Watch streams, now and from now on.
  void EndWatches();
  // Waits until no Generate call is left, or until `deadline`.
  void AwaitIdle(absl::Time deadline);

  grpc::ServerUnaryReactor* Describe(grpc::CallbackServerContext* context,
                                     const v1::DescribeRequest* request,
                                     v1::WorldDescription* response) override;
  grpc::ServerWriteReactor<v1::AssetChunk>* GetTextAssets(
      grpc::CallbackServerContext* context, const v1::GetTextAssetsRequest* request) override;
  grpc::ServerWriteReactor<v1::WorldReport>* Watch(grpc::CallbackServerContext* context,
                                                   const v1::WatchRequest* request) override;
  grpc::ServerWriteReactor<v1::TokenEvent>* Generate(grpc::CallbackServerContext* context,
                                                     const v1::TokenRequest* request) override;
  grpc::ServerUnaryReactor* Abort(grpc::CallbackServerContext* context,
                                  const v1::WorldAbortRequest* request,
                                  v1::WorldAbortResponse* response) override;
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context,
                                  const v1::DrainRequest* request,
                                  v1::DrainResponse* response) override;
  grpc::ServerWriteReactor<v1::CacheEvent>* WatchCache(
      grpc::CallbackServerContext* context, const v1::WatchCacheRequest* request) override;

 private:
  enum class Phase { kStarting, kReady, kNotReady };

  v1::WorldReport MakeReport(const EngineLoad& load) const;
  void Report(absl::Time now, const v1::WorldReport& report);
  void BreakStalled(absl::Time now);

  const WorldServerOptions options_;
  const WorldInfo info_;
  EngineHandle* const engine_;
  const std::function<void()> on_change_;
  const std::string instance_id_;
  const v1::WorldDescription description_;

  mutable absl::Mutex mutex_;
  Phase phase_ ABSL_GUARDED_BY(mutex_) = Phase::kStarting;
  std::string cause_ ABSL_GUARDED_BY(mutex_);
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::unordered_map<TokenStream*, std::weak_ptr<TokenStream>> streams_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<WatchStream*, std::weak_ptr<WatchStream>> watches_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace deltaserve
