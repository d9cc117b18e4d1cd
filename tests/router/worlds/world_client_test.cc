#include "router/worlds/world_client.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/error.h"
#include "router/worlds/world_registry.h"
#include "tests/router/worlds/fake_world.h"

namespace deltaserve {
namespace {

using ::testing::HasSubstr;

WorldClientOptions OptionsFor(const std::string& address) {
  return {.address = address,
          .least_backoff = absl::Milliseconds(10),
          .most_backoff = absl::Milliseconds(50)};
}

std::unique_ptr<WorldRegistry> RegistryOf(const std::vector<std::string>& addresses) {
  std::vector<WorldClientOptions> worlds;
  for (const std::string& address : addresses) worlds.push_back(OptionsFor(address));
  return std::make_unique<WorldRegistry>(worlds, std::make_unique<FewestStreams>());
}

absl::Time Patience() { return absl::Now() + kPatience; }

TEST(WorldClientTest, LearnsWhatTheWorldServesAndItsState) {
  FakeWorld world;
  world.Start();
  const WorldClient client(OptionsFor(world.address()));
  ASSERT_TRUE(client.Await(WorldState::kStarting, Patience()));
  world.Report(v1::WorldReport::STATE_READY, "");
  ASSERT_TRUE(client.Await(WorldState::kReady, Patience()));
  const WorldView view = client.View();
  ASSERT_NE(view.facts, nullptr);
  EXPECT_EQ(view.facts->model().id(), "tiny");
  EXPECT_EQ(view.facts->text->defaults.top_k, std::optional<int32_t>(20));
  EXPECT_EQ(view.facts->text->tokenizer->num_tokens(), FixtureTokenizer()->num_tokens());
  world.Report(v1::WorldReport::STATE_DRAINING, "asked");
  ASSERT_TRUE(client.Await(WorldState::kDraining, Patience()));
  world.Report(v1::WorldReport::STATE_NOT_READY, "rank 1 on here died");
  ASSERT_TRUE(client.Await(WorldState::kLost, Patience()));
  EXPECT_EQ(client.View().cause, "rank 1 on here died");
}

TEST(WorldClientTest, ConnectsAgainAndFetchesTheSameTextOnce) {
  FakeWorld world;
  world.Start();
  world.Report(v1::WorldReport::STATE_READY, "");
  const WorldClient client(OptionsFor(world.address()));
  ASSERT_TRUE(client.Await(WorldState::kReady, Patience()));
  const std::shared_ptr<const ModelText> text = client.View().facts->text;
  world.Stop();
  ASSERT_TRUE(client.Await(WorldState::kLost, Patience()));
  world.Start(world.port());
  ASSERT_TRUE(client.Await(WorldState::kReady, Patience()));
  EXPECT_EQ(client.View().facts->text, text);
  EXPECT_GE(world.num_describes(), 2);
  EXPECT_EQ(world.num_asset_calls(), 1);
}

TEST(WorldClientTest, RefusesTextOfAnotherDigest) {
  FakeWorld world;
  world.files()[kGenerationConfigFile] = "{}";  // changed after the digest was told
  world.Start();
  const WorldClient client(OptionsFor(world.address()));
  // A second attempt shows that the first one ended.
  ASSERT_TRUE(Eventually([&] { return world.num_asset_calls() >= 2; }));
  const WorldView view = client.View();
  EXPECT_EQ(view.state, WorldState::kConnecting);
  EXPECT_EQ(view.facts, nullptr);
  EXPECT_THAT(view.cause, HasSubstr("where the world announced"));
}

TEST(WorldClientTest, RefusesAWorldOfAnotherProtocol) {
  FakeWorld world;
  world.description().set_protocol_revision(99);
  world.Start();
  const WorldClient client(OptionsFor(world.address()));
  ASSERT_TRUE(Eventually([&] { return world.num_describes() >= 2; }));
  EXPECT_THAT(client.View().cause, HasSubstr("protocol revision 99"));
}

TEST(WorldClientTest, SilenceCountsAsLost) {
  FakeWorld world;
  world.Start();
  world.Report(v1::WorldReport::STATE_READY, "");
  WorldClientOptions options = OptionsFor(world.address());
  options.report_timeout = absl::Milliseconds(1);
  const WorldClient client(options);
  ASSERT_TRUE(client.Await(WorldState::kReady, Patience()));
  ASSERT_TRUE(Eventually([&] { return client.View().state != WorldState::kReady; }));
  EXPECT_EQ(client.View().state, WorldState::kLost);
  EXPECT_THAT(client.View().cause, HasSubstr("no report for 1ms"));
}

// Notes what a stream says.
class Observer : public TokenObserver {
 public:
  void OnEvent(const v1::TokenEvent& /*event*/) override { ++events; }
  void OnEnd(const absl::Status& end) override {
    status = end;
    ended.Notify();
  }
  std::atomic<int> events{0};
  absl::Status status;
  absl::Notification ended;
};

class TokenCallTest : public testing::Test {
 protected:
  void SetUp() override {
    world_.Start();
    client_ = std::make_unique<WorldClient>(OptionsFor(world_.address()));
  }
  std::shared_ptr<TokenCall> NewCall() {
    return client_->NewCall({}, absl::InfiniteFuture(), observer_);
  }

  FakeWorld world_;
  std::unique_ptr<WorldClient> client_;
  const std::shared_ptr<Observer> observer_ = std::make_shared<Observer>();
};

TEST_F(TokenCallTest, ReadsOnlyWhatIsAskedForAndIsCountedUntilItsEnd) {
  std::shared_ptr<TokenCall> call = NewCall();
  EXPECT_EQ(client_->View().in_flight, 1u);
  call->Start(call);
  const auto answer = world_.Next();
  answer->Admit();
  answer->Tokens(0, {1});
  answer->End(v1::FINISH_REASON_LENGTH, 1);
  ASSERT_TRUE(Eventually([&] { return observer_->events == 1; }));
  EXPECT_FALSE(observer_->ended.WaitForNotificationWithTimeout(absl::Milliseconds(50)));
  EXPECT_EQ(observer_->events, 1);
  while (!observer_->ended.HasBeenNotified()) call->Next();
  EXPECT_EQ(observer_->events, 3);
  EXPECT_TRUE(observer_->status.ok());
  call->Next();
  call->Cancel();
  call.reset();
  ASSERT_TRUE(Eventually([&] { return client_->View().in_flight == 0; }));
}

TEST_F(TokenCallTest, CancelEndsACallThatNobodyReads) {
  const std::shared_ptr<TokenCall> call = NewCall();
  call->Start(call);
  const auto answer = world_.Next();
  answer->Admit();
  ASSERT_TRUE(Eventually([&] { return observer_->events == 1; }));
  call->Cancel();
  call->Cancel();
  EXPECT_TRUE(answer->AwaitCancelled());
  EXPECT_TRUE(observer_->ended.WaitForNotificationWithTimeout(kPatience));
}

TEST_F(TokenCallTest, CancelBeforeStartEndsTheCall) {
  const std::shared_ptr<TokenCall> call = NewCall();
  call->Cancel();
  call->Start(call);
  EXPECT_TRUE(observer_->ended.WaitForNotificationWithTimeout(kPatience));
  EXPECT_FALSE(observer_->status.ok());
}

TEST_F(TokenCallTest, AWorldThatDiesIsLostAndRetryable) {
  const std::shared_ptr<TokenCall> call = NewCall();
  call->Start(call);
  world_.Next();
  const std::string address = world_.address();
  world_.Stop();
  ASSERT_TRUE(observer_->ended.WaitForNotificationWithTimeout(kPatience));
  EXPECT_EQ(observer_->status.code(), absl::StatusCode::kUnavailable);
  const v1::ErrorDetail detail = DetailOf(observer_->status);
  EXPECT_EQ(detail.code(), v1::ERROR_CODE_WORLD_LOST);
  EXPECT_TRUE(detail.retryable());
  EXPECT_EQ(detail.world(), address);
  EXPECT_THAT(std::string(observer_->status.message()), HasSubstr(address));
}

TEST(WorldRegistryTest, NamesEachWorldAndCauseWhereNoneIsReady) {
  FakeWorld world;
  world.Start();
  world.Report(v1::WorldReport::STATE_NOT_READY, "rank 1 on here died");
  const auto registry = RegistryOf({world.address()});
  ASSERT_TRUE(Eventually([&] { return registry->Views()[0].state == WorldState::kLost; }));
  const absl::Status status = registry->Choose("").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(DetailOf(status).code(), v1::ERROR_CODE_WORLD_LOST);
  EXPECT_EQ(DetailOf(status).world(), world.address());
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1 on here died"));
  EXPECT_TRUE(registry->Facts("tiny").ok());  // text needs no ready world
  EXPECT_FALSE(registry->IsReady());
}

TEST(WorldRegistryTest, RefusesAModelThatNobodyServes) {
  FakeWorld world;
  world.Start();
  world.Report(v1::WorldReport::STATE_READY, "");
  const auto registry = RegistryOf({world.address()});
  ASSERT_TRUE(Eventually([&] { return registry->IsReady(); }));
  const absl::Status status = registry->Choose("big").status();
  EXPECT_EQ(DetailOf(status).code(), v1::ERROR_CODE_MODEL_NOT_FOUND);
  EXPECT_EQ(std::string(status.message()), "model big is not served; name one of: tiny");
}

TEST(WorldRegistryTest, SendsToTheReadyWorldWithTheFewestStreams) {
  FakeWorld first;
  FakeWorld second;
  for (FakeWorld* world : {&first, &second}) {
    world->Start();
    world->Report(v1::WorldReport::STATE_READY, "");
  }
  const auto registry = RegistryOf({first.address(), second.address()});
  const auto ready = [&registry](size_t i) {
    return registry->Views()[i].state == WorldState::kReady;
  };
  ASSERT_TRUE(Eventually([&] { return ready(0) && ready(1); }));
  WorldClient* const chosen = registry->Choose("tiny")->client;
  EXPECT_EQ(chosen->View().address, first.address());
  // Counted from the moment it is made, before anything is sent.
  const auto call = chosen->NewCall({}, absl::InfiniteFuture(), nullptr);
  EXPECT_EQ(registry->Choose("tiny")->client->View().address, second.address());
  second.Report(v1::WorldReport::STATE_DRAINING, "");
  ASSERT_TRUE(Eventually([&] { return !ready(1); }));
  EXPECT_EQ(registry->Choose("tiny")->client->View().address, first.address());
}

TEST(WorldRegistryTest, AnEmptyModelIsRefusedWhereTwoAreServed) {
  FakeWorld first;
  FakeWorld second;
  second.description().mutable_models(0)->set_id("other");
  for (FakeWorld* world : {&first, &second}) world->Start();
  const auto registry = RegistryOf({first.address(), second.address()});
  ASSERT_TRUE(Eventually([&] {
    return registry->Views()[0].facts != nullptr && registry->Views()[1].facts != nullptr;
  }));
  const absl::Status status = registry->Facts("").status();
  EXPECT_EQ(DetailOf(status).field(), "model");
  EXPECT_THAT(std::string(status.message()), HasSubstr("name one of: other, tiny"));
}

}  // namespace
}  // namespace deltaserve
