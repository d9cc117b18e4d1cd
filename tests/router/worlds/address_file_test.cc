#include "router/worlds/address_file.h"

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/error.h"
#include "router/worlds/world_registry.h"
#include "tests/router/worlds/fake_world.h"

namespace deltaserve {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// A file of one test, written as deploy/world writes it: beside, and renamed.
class WorldFile {
 public:
  WorldFile() { Remove(); }
  ~WorldFile() { Remove(); }
  void Write(const std::string& text) const {
    std::ofstream(path_ + ".partial", std::ios::trunc) << text;
    std::filesystem::rename(path_ + ".partial", path_);
  }
  void Remove() const { std::filesystem::remove(path_); }
  const std::string& path() const { return path_; }

 private:
  const std::string path_ = ::testing::TempDir() + "world-" +
                            ::testing::UnitTest::GetInstance()->current_test_info()->name() +
                            ".address";
};

WorldClientOptions OptionsFor(const WorldFile& file) {
  return {.address_file = file.path(),
          .file_interval = absl::Milliseconds(5),
          .least_backoff = absl::Milliseconds(10),
          .most_backoff = absl::Seconds(10)};  // a move is not to wait for it
}

absl::Time Patience() { return absl::Now() + kPatience; }

class Heard : public TokenObserver {
 public:
  void OnEvent(const v1::TokenEvent& /*event*/) override { first.Notify(); }
  void OnEnd(const absl::Status& status) override {
    end = status;
    ended.Notify();
  }
  absl::Notification first, ended;
  absl::Status end;
};

TEST(AddressFileTest, SaysWhatStandsInIt) {
  struct Row {
    const char* text;
    const char* address;  // null where the message is told
    const char* message;
  };
  const std::vector<Row> rows = {
      {"10.77.0.1:50052\n", "10.77.0.1:50052", nullptr},
      {"  node-a:1  ", "node-a:1", nullptr},
      {"", nullptr, "no address in "},
      {"node-a", nullptr, "holds \"node-a\", which is no HOST:PORT"},
      {"node-a:0", nullptr, "which is no HOST:PORT"},
      {":50052", nullptr, "which is no HOST:PORT"},
      {"node-a:65536", nullptr, "which is no HOST:PORT"},
  };
  const WorldFile file;
  for (const Row& row : rows) {
    SCOPED_TRACE(row.text);
    file.Write(row.text);
    absl::Notification heard;
    absl::StatusOr<std::string> said;
    const AddressFile watched(file.path(), absl::Milliseconds(1),
                              [&](const absl::StatusOr<std::string>& address) {
                                said = address;
                                heard.Notify();
                              });
    ASSERT_TRUE(heard.WaitForNotificationWithTimeout(kPatience));
    if (row.address != nullptr) {
      EXPECT_EQ(said.value(), row.address);
    } else {
      EXPECT_THAT(std::string(said.status().message()),
                  AllOf(HasSubstr(row.message), HasSubstr(file.path())));
    }
  }
}

TEST(AddressFileTest, AClientWaitsForTheFileAndFindsTheWorldWhereItReturns) {
  const WorldFile file;
  WorldRegistry worlds({OptionsFor(file)}, std::make_unique<FewestStreams>());
  EXPECT_TRUE(Eventually([&] {
    return worlds.Views()[0].cause ==
           "no address in " + file.path() + ": its world is not ready, or is gone";
  })) << worlds.Views()[0].cause;
  EXPECT_EQ(DetailOf(worlds.Choose("").status()).code(), v1::ERROR_CODE_WORLD_LOST);

  FakeWorld first;
  first.Start();
  first.Report(v1::WorldReport::STATE_READY, "");
  file.Write(first.address());
  ASSERT_TRUE(Eventually([&] { return worlds.IsReady(); }));
  const ChosenWorld chosen = worlds.Choose("").value();
  const auto heard = std::make_shared<Heard>();
  const auto call = chosen.client->NewCall({}, absl::InfiniteFuture(), heard);
  call->Start(call);
  first.Next()->Admit();
  ASSERT_TRUE(heard->first.WaitForNotificationWithTimeout(kPatience));
  call->Next();
  first.Stop();
  ASSERT_TRUE(heard->ended.WaitForNotificationWithTimeout(kPatience));
  EXPECT_EQ(DetailOf(heard->end).code(), v1::ERROR_CODE_WORLD_LOST);
  EXPECT_TRUE(DetailOf(heard->end).retryable());

  FakeWorld second;
  second.Start();
  second.Report(v1::WorldReport::STATE_READY, "");
  file.Remove();
  file.Write(second.address());
  ASSERT_TRUE(Eventually([&] { return worlds.IsReady(); }));
  EXPECT_EQ(worlds.Views()[0].address, second.address());
  EXPECT_EQ(worlds.Choose("").value().client, chosen.client);
  EXPECT_EQ(worlds.Choose("").value().facts->text, chosen.facts->text);  // the same digest
  EXPECT_EQ(second.num_asset_calls(), 0);
}

// Written again with the same address: the world is back there, and no back-off is waited out.
TEST(AddressFileTest, AWorldThatReturnsToItsPlaceIsFoundAtOnce) {
  const WorldFile file;
  FakeWorld world;
  world.Start();
  world.Report(v1::WorldReport::STATE_READY, "");
  file.Write(world.address());
  WorldClientOptions options = OptionsFor(file);
  options.least_backoff = absl::Minutes(5);
  options.most_backoff = absl::Minutes(5);
  const WorldClient client(options);
  ASSERT_TRUE(client.Await(WorldState::kReady, Patience()));
  world.Stop();
  ASSERT_TRUE(client.Await(WorldState::kLost, Patience()));
  world.Start(world.port());
  file.Write(world.address());
  EXPECT_TRUE(client.Await(WorldState::kReady, Patience()));
}

// A call to the place before goes on there: a move takes nothing from it.
TEST(AddressFileTest, StreamsToThePlaceBeforeRunOn) {
  const WorldFile file;
  FakeWorld first, second;
  first.Start();
  first.Report(v1::WorldReport::STATE_READY, "");
  second.Start();
  second.Report(v1::WorldReport::STATE_READY, "");
  file.Write(first.address());
  WorldClient client(OptionsFor(file));
  ASSERT_TRUE(client.Await(WorldState::kReady, Patience()));
  const auto heard = std::make_shared<Heard>();
  const auto call = client.NewCall({}, absl::InfiniteFuture(), heard);
  call->Start(call);
  const std::shared_ptr<WorldAnswer> answer = first.Next();
  file.Write(second.address());
  ASSERT_TRUE(Eventually([&] {
    const WorldView view = client.View();
    return view.address == second.address() && view.state == WorldState::kReady;
  }));
  EXPECT_EQ(client.View().in_flight, 0U);
  answer->Admit();
  ASSERT_TRUE(heard->first.WaitForNotificationWithTimeout(kPatience));
  call->Next();
  answer->Close(grpc::Status::OK);
  ASSERT_TRUE(heard->ended.WaitForNotificationWithTimeout(kPatience));
  EXPECT_TRUE(heard->end.ok()) << heard->end;
}

}  // namespace
}  // namespace deltaserve
