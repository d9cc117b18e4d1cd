#pragma once

// InferenceService: the Inference service of a router over a WorldRegistry. It owns the threads
// that tokenise; RouterServer calls Heartbeat.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "deltaserve/v1/inference.grpc.pb.h"
#include "proto/grpc_server.h"
#include "router/service/answer_stream.h"
#include "router/service/router_server.h"
#include "router/service/work_queue.h"
#include "router/worlds/world_registry.h"

namespace deltaserve {

// The methods whose requests hold text are raw: what is not UTF-8, gRPC would refuse without saying
// why.
using InferenceMethods = v1::Inference::WithRawCallbackMethod_Generate<
    v1::Inference::WithRawCallbackMethod_Chat<v1::Inference::WithRawCallbackMethod_Tokenize<
        v1::Inference::WithRawCallbackMethod_Detokenize<
            v1::Inference::WithCallbackMethod_ListModels<
                v1::Inference::WithRawCallbackMethod_Abort<v1::Inference::Service>>>>>>;

// Threads: any. Owner: RouterServer; it outlives the gRPC server.
class InferenceService final : public InferenceMethods {
 public:
  // `worlds` must outlive it.
  InferenceService(const RouterServerOptions& options, const WorldRegistry* worlds);
  ~InferenceService() override;

  // Breaks stalled streams off. The health that results: live always, ready while a world is and
  // requests are taken.
  Health Heartbeat(absl::Time now);

  // Refuses new requests with DRAINING from now on.
  void BeginDrain();
  // Waits until no answer is under way; false where `deadline` came first.
  bool AwaitIdle(absl::Time deadline);

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Generate(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Chat(grpc::CallbackServerContext* context,
                                                   const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;
  grpc::ServerUnaryReactor* Abort(grpc::CallbackServerContext* context,
                                  const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response) override;

 private:
  // Starts `answer`'s stream on a thread of the queue.
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Stream(grpc::CallbackServerContext* context,
                                                     const char* id_prefix,
                                                     std::unique_ptr<Answer> answer);
  // Answers a unary call with what `work` returns, on a thread of the queue.
  grpc::ServerUnaryReactor* Reply(grpc::CallbackServerContext* context,
                                  std::function<absl::Status()> work);
  absl::Status TokenizeNow(const v1::TokenizeRequest& request,
                           v1::TokenizeResponse* response) const;
  absl::Status DetokenizeNow(const v1::DetokenizeRequest& request,
                             v1::DetokenizeResponse* response) const;
  std::vector<std::shared_ptr<AnswerStream>> Streams() const;

  const RouterServerOptions options_;
  const WorldRegistry* const worlds_;
  std::atomic<bool> draining_{false};
  mutable absl::Mutex mutex_;
  std::unordered_map<AnswerStream*, std::weak_ptr<AnswerStream>> streams_ ABSL_GUARDED_BY(mutex_);
  WorkQueue queue_;  // ends first: its tasks use all of the above
};

}  // namespace deltaserve
