#pragma once

// FakeWorld: a World service over loopback whose engine is the test.

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "deltaserve/v1/world.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "kernels/base/check.h"
#include "proto/protocol.h"
#include "proto/text_digest.h"
#include "router/text/text_assets.h"
#include "tests/router/text/fixture.h"

namespace deltaserve {

// Longer than anything a test waits for; a test that waits for so long has failed.
inline constexpr absl::Duration kPatience = absl::Seconds(20);

// True once `condition` holds; false where it does not within a test's patience. For states that
// nothing announces.
template <typename Condition>
bool Eventually(const Condition& condition) {
  const absl::Time deadline = absl::Now() + kPatience;
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

// One Generate call. The test's thread writes what the world would.
class WorldAnswer {
 public:
  WorldAnswer(v1::TokenRequest asked, grpc::ServerWriter<v1::TokenEvent>* writer)
      : request(std::move(asked)), writer_(writer) {}

  const v1::TokenRequest request;

  void Admit() {
    v1::TokenEvent event;
    event.mutable_admitted();
    Write(event);
  }
  void Tokens(uint32_t first_index, const std::vector<int32_t>& ids) {
    v1::TokenEvent event;
    event.mutable_tokens()->set_first_index(first_index);
    for (const int32_t id : ids) event.mutable_tokens()->add_ids(static_cast<uint32_t>(id));
    Write(event);
  }
  // A page of scores of the prompt's tokens from `first_position` on.
  void PromptScores(uint32_t first_position, const std::vector<uint32_t>& ids) {
    v1::TokenEvent event;
    event.mutable_prompt_scores()->set_first_position(first_position);
    for (const uint32_t id : ids) {
      v1::TokenLogprob* score = event.mutable_prompt_scores()->add_tokens();
      score->set_token_id(id);
      score->set_rank(2);
      score->add_top()->set_token_id(id + 1);
    }
    Write(event);
  }
  // The last event and the end of the call.
  void End(v1::FinishReason reason, uint32_t completion_tokens) {
    v1::TokenEvent event;
    event.mutable_ended()->set_reason(reason);
    event.mutable_ended()->mutable_usage()->set_completion_tokens(completion_tokens);
    Write(event);
    Close(grpc::Status::OK);
  }
  // False where the call is over.
  bool Write(const v1::TokenEvent& event) {
    absl::MutexLock lock(&mutex_);
    return !over_ && writer_->Write(event);
  }
  void Close(const grpc::Status& status) {
    absl::MutexLock lock(&mutex_);
    if (!status_.has_value()) status_ = status;
  }
  // True once the router has cancelled the call.
  bool AwaitCancelled() {
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(&cancelled_), kPatience);
    return cancelled_;
  }

 private:
  friend class FakeWorld;

  // The handler's side: returns when the test closes the call or the router cancels it.
  grpc::Status Serve(const grpc::ServerContext& context) {
    absl::MutexLock lock(&mutex_);
    const auto closed = [this] { return status_.has_value(); };
    while (!mutex_.AwaitWithTimeout(absl::Condition(&closed), absl::Milliseconds(2))) {
      if (!context.IsCancelled()) continue;
      cancelled_ = true;
      status_ = grpc::Status::CANCELLED;
    }
    over_ = true;
    return *status_;
  }

  absl::Mutex mutex_;
  grpc::ServerWriter<v1::TokenEvent>* const writer_;
  std::optional<grpc::Status> status_;
  bool cancelled_ = false;
  bool over_ = false;
};

class FakeWorld final : public v1::World::Service {
 public:
  FakeWorld() {
    for (const char* name :
         {kTokenizerFile, kTokenizerConfigFile, kChatTemplateFile, kGenerationConfigFile}) {
      files_[name] = FixtureBytes(name);
    }
    description_.set_protocol_revision(kProtocolRevision);
    v1::ServedModel* model = description_.add_models();
    model->set_id("tiny");
    model->set_weights_fingerprint("abc");
    model->set_text_digest(TextDigest(files_));
    model->set_max_context(200);
    model->set_vocab_rows(1024);
    model->set_num_tokens(static_cast<uint32_t>(FixtureTokenizer()->num_tokens()));
    model->add_eos_token_ids(7);
    model->set_generation_defaults_json(files_[kGenerationConfigFile]);
    description_.mutable_capacity()->set_slots(32);
    description_.mutable_capacity()->set_max_queue(256);
    description_.mutable_capacity()->set_max_queue_tokens(1 << 18);
  }
  ~FakeWorld() override { Stop(); }

  // Before Start.
  v1::WorldDescription& description() { return description_; }
  std::map<std::string, std::string>& files() { return files_; }

  // `port` 0 takes a free one.
  void Start(int port = 0) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:" + std::to_string(port), grpc::InsecureServerCredentials(),
                             &port_);
    // Else the port of another test's world that stopped could be shared with this one.
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5000);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    DS_CHECK(server_ != nullptr && port_ != 0) << "port " << port;
  }
  // Cuts every call, as a world that dies does.
  void Stop() {
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
    server_ = nullptr;
  }
  int port() const { return port_; }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  void Report(v1::WorldReport::State state, const std::string& cause) {
    absl::MutexLock lock(&mutex_);
    report_.set_state(state);
    report_.set_cause(cause);
    ++reports_;
  }

  // The next Generate call, which must come.
  std::shared_ptr<WorldAnswer> Next() {
    absl::MutexLock lock(&mutex_);
    const auto any = [this] { return !answers_.empty(); };
    DS_CHECK(mutex_.AwaitWithTimeout(absl::Condition(&any), kPatience))
        << "no Generate call came to " << address() << ", which had " << num_describes()
        << " Describe calls and " << num_generates() << " of Generate";
    std::shared_ptr<WorldAnswer> next = std::move(answers_.front());
    answers_.pop_front();
    return next;
  }

  int num_describes() const { return describes_; }
  int num_asset_calls() const { return asset_calls_; }
  int num_generates() const { return generates_; }

  grpc::Status Describe(grpc::ServerContext* /*context*/,
                        const v1::DescribeRequest* /*request*/,
                        v1::WorldDescription* response) override {
    ++describes_;
    *response = description_;
    return grpc::Status::OK;
  }
  grpc::Status GetTextAssets(grpc::ServerContext* /*context*/,
                             const v1::GetTextAssetsRequest* /*request*/,
                             grpc::ServerWriter<v1::AssetChunk>* writer) override {
    ++asset_calls_;
    for (const auto& [name, bytes] : files_) {
      const size_t half = bytes.size() / 2;
      v1::AssetChunk chunk;
      chunk.set_name(name);
      chunk.set_data(bytes.substr(0, half));
      writer->Write(chunk);
      chunk.set_offset(half);
      chunk.set_data(bytes.substr(half));
      chunk.set_last(true);
      writer->Write(chunk);
    }
    return grpc::Status::OK;
  }
  grpc::Status Watch(grpc::ServerContext* context,
                     const v1::WatchRequest* /*request*/,
                     grpc::ServerWriter<v1::WorldReport>* writer) override {
    uint64_t sent = 0;
    while (!context->IsCancelled()) {
      v1::WorldReport report;
      {
        absl::MutexLock lock(&mutex_);
        const auto fresh = [this, &sent] { return reports_ > sent; };
        if (!mutex_.AwaitWithTimeout(absl::Condition(&fresh), absl::Milliseconds(2))) continue;
        sent = reports_;
        report = report_;
      }
      writer->Write(report);
    }
    return grpc::Status::CANCELLED;
  }
  grpc::Status Generate(grpc::ServerContext* context,
                        const v1::TokenRequest* request,
                        grpc::ServerWriter<v1::TokenEvent>* writer) override {
    ++generates_;
    const auto answer = std::make_shared<WorldAnswer>(*request, writer);
    {
      absl::MutexLock lock(&mutex_);
      answers_.push_back(answer);
    }
    return answer->Serve(*context);
  }

 private:
  std::map<std::string, std::string> files_;
  v1::WorldDescription description_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  std::atomic<int> describes_{0};
  std::atomic<int> asset_calls_{0};
  std::atomic<int> generates_{0};
  absl::Mutex mutex_;
  v1::WorldReport report_;
  uint64_t reports_ = 0;
  std::deque<std::shared_ptr<WorldAnswer>> answers_;
};

}  // namespace deltaserve
