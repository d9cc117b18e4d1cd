#pragma once

// A router's server over a world that the test plays, and one call of a client.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "deltaserve/v1/inference.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "proto/grpc_server.h"
#include "proto/grpc_status.h"
#include "router/service/router_server.h"
#include "router/worlds/routing_policy.h"
#include "router/worlds/world_registry.h"
#include "tests/router/worlds/fake_world.h"
#include "tests/worker/service/raw_client.h"

namespace deltaserve {

inline v1::GenerateRequest Prompt(const std::string& text) {
  v1::GenerateRequest request;
  request.set_text(text);
  return request;
}

// One Generate call of a client.
class Asked {
 public:
  Asked(v1::Inference::Stub& stub,
        const v1::GenerateRequest& request,
        absl::Duration patience = kPatience) {
    context_.set_deadline(absl::ToChronoTime(absl::Now() + patience));
    reader_ = stub.Generate(&context_, request);
  }
  // Ends what a failed test left open.
  ~Asked() { Cancel(); }

  // The next event; an empty one at the end.
  v1::GenerateEvent Read() {
    v1::GenerateEvent event;
    if (!reader_->Read(&event)) event.Clear();
    return event;
  }
  absl::Status Finish() {
    v1::GenerateEvent event;
    while (reader_->Read(&event)) {
    }
    finished_ = true;
    return FromGrpcStatus(reader_->Finish());
  }
  void Cancel() {
    context_.TryCancel();
    if (!finished_) static_cast<void>(Finish());
  }
  void TryCancel() { context_.TryCancel(); }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<v1::GenerateEvent>> reader_;
  bool finished_ = false;
};

// A router over one world that the test plays.
class RouterServerTest : public testing::Test {
 protected:
  void SetUp() override {
    world_.Start();
    world_.Report(v1::WorldReport::STATE_READY, "");
    Restart({.tick = absl::Milliseconds(5)});
    RawCall watch(server_->address(), "/grpc.health.v1.Health/Watch", HealthRequest("ready"));
    ASSERT_TRUE(AwaitServing(watch, true));
  }

  void Restart(const RouterServerOptions& options) {
    server_.reset();
    auto worlds = std::make_unique<WorldRegistry>(std::vector<WorldClientOptions>{{
                                                      .address = world_.address(),
                                                      .least_backoff = absl::Milliseconds(10),
                                                      .most_backoff = absl::Milliseconds(50),
                                                  }},
                                                  std::make_unique<FewestStreams>());
    auto server = RouterServer::Start(options, std::move(worlds));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    stub_ = v1::Inference::NewStub(grpc::CreateCustomChannel(
        server_->address(), grpc::InsecureChannelCredentials(), ClientChannelArguments()));
    ASSERT_TRUE(Eventually([this] { return server_->IsReady(); }));
  }

  static std::unique_ptr<grpc::ClientContext> Context() {
    auto context = std::make_unique<grpc::ClientContext>();
    context->set_deadline(absl::ToChronoTime(absl::Now() + kPatience));
    return context;
  }

  // A whole answer, to see that the server is up and well.
  void ExpectServes() {
    Asked asked(*stub_, Prompt("well"));
    const auto answer = world_.Next();
    answer->Admit();
    answer->Tokens(0, Ids("ok"));
    answer->End(v1::FINISH_REASON_LENGTH, 1);
    EXPECT_TRUE(asked.Read().has_started());
    EXPECT_EQ(asked.Read().delta().text(), "ok");
    EXPECT_TRUE(asked.Read().has_finished());
    EXPECT_TRUE(asked.Finish().ok());
  }

  std::vector<int32_t> Ids(const std::string& text) const { return *tokenizer_->Encode(text); }

  const std::unique_ptr<Tokenizer> tokenizer_ = FixtureTokenizer();
  FakeWorld world_;
  std::unique_ptr<RouterServer> server_;
  std::unique_ptr<v1::Inference::Stub> stub_;
};

}  // namespace deltaserve
