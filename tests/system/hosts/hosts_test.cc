// A world over two hosts: what it answers, what it refuses to start on, and how it ends and
// returns.

#include <signal.h>

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "tests/system/hosts/failure.h"
#include "tests/system/hosts/hosted_world.h"
#include "tests/system/hosts/streams.h"

namespace deltaserve::test {
namespace {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint32_t kTokens = 40;

class HostsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!WhyNoHosts().empty()) GTEST_SKIP() << WhyNoHosts();
  }
};

std::vector<std::vector<uint32_t>> Tokens(v1::Inference::Stub& inference) {
  std::vector<std::vector<uint32_t>> all;
  for (const float temperature : {0.0F, 1.0F}) {
    v1::GenerateRequest request = GreedyRequest("The first of two hosts", kTokens);
    request.mutable_options()->mutable_sampling()->set_temperature(temperature);
    request.mutable_options()->mutable_sampling()->set_seed(11);
    grpc::ClientContext context;
    const Answer answer = Generate(inference, request, context);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    all.push_back(answer.tokens);
  }
  return all;
}

TEST_F(HostsTest, TwoHostsOfTwoRanksGiveTheTokensOfOneHostOfFour) {
  HostedWorld world({"--kv-memory", "32M"});
  const auto over_two = Tokens(world.inference());
  const std::map<pid_t, std::string> processes = WorldProcesses();
  const auto over_one = [&] {
    ServedModel one_host(4, {}, world.model());
    return Tokens(one_host.inference());
  }();
  EXPECT_THAT(over_two, ElementsAreArray(over_one));
  EXPECT_EQ(over_two.front().size(), kTokens);
  // A drain finishes what runs.
  Streams streams(world.inference(), 2, 2 * kTokens);
  streams.WaitForTokens(3);
  world.supervisor().Signal(SIGTERM);
  for (const Answer& answer : streams.Finish()) {
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.tokens.size(), 2 * kTokens);
  }
  EXPECT_EQ(world.supervisor().Wait(absl::Seconds(30)), 0) << world.supervisor().Log();
  EXPECT_TRUE(HostedWorld::WaitUntilGone(processes, absl::ZeroDuration()).has_value());
  EXPECT_THAT(world.hosts().Leftovers(), IsEmpty());
  EXPECT_EQ(ReadFile(world.world_file()), std::nullopt);
}

TEST_F(HostsTest, AKilledRankEndsTheWorldWhichServesAgain) {
  ExpectRecovery(
      {.cause = "rank 3 on b: ", .promised = absl::Seconds(10), .strike = [](HostedWorld& world) {
         kill(world.RankPids()[3], SIGKILL);
       }});
}

struct Refused {
  const char* flags;
  int code;
  std::vector<std::string> said;
  // What differs: on `host`, lines for sh with $MODEL, $OTHER, $BIN and $SHARED.
  const char* host = "b";
  const char* prepare = "true";
  const char* undo = "true";
};

const Refused kRefused[] = {
    {"--hosts a:2,c:2",
     69,
     {"host c: not reached: agent: Could not resolve hostname c", "add its name to DNS"}},
    {"--hosts a:2,b:1", 64, {"host a: ", "3 ranks", "1, 2 or 4"}},
    {"--hosts a:2,b:2 --network 10.88.0.0/24",
     64,
     {"host b: network: it has no address in --network=10.88.0.0/24, but 10.77.0.2/24 (eth0)"},
     "a",
     "ip address add 10.88.0.1/24 dev eth0",
     "ip address del 10.88.0.1/24 dev eth0"},
    {"--hosts a:2,b:2",
     64,
     {"host b: network: a has 10.77.0.1/24 (eth0) and it has 10.77.0.2/25 (eth0)",
      "give one that holds"},
     "b",
     "ip address add 10.77.0.2/25 dev eth0; ip address del 10.77.0.2/24 dev eth0",
     "ip address add 10.77.0.2/24 dev eth0; ip address del 10.77.0.2/25 dev eth0"},
    // Several at once, each told.
    {"--hosts a:2,b:2 --port 6000 --device cuda",
     64,
     {"host a: port: something listens on 10.77.0.1:6000 already", "another --port",
      "host b: GPUs: --device is cuda, its ranks are 2 and its GPUs 0", "--device cpu"},
     "a",
     "setsid /usr/bin/python3 -c 'import socket, time; s = socket.create_server((\"\", 6000)); "
     "time.sleep(60)' "
     ">/dev/null 2>&1 & echo $! >/tmp/listener; sleep 0.3",
     "kill $(cat /tmp/listener); rm /tmp/listener"},
    {"--hosts a:2,b:2 --kv-memory 400G --slots 4096",
     64,
     {"host a: memory: its 2 ranks need", "host b: memory: its 2 ranks need",
      "smaller --kv-memory (is 429496729600)"},
     "a",
     "true",
     "true"},
    {"--hosts a:2,b:2",
     64,
     {"host b: model: ", "has fingerprint", "copy one folder to every host"},
     "b",
     "mount --bind $OTHER $MODEL",
     "umount $MODEL"},
    {"--hosts a:2,b:2",
     64,
     {"host b: model: no folder ", "copy it to the same path"},
     "b",
     "mount -t tmpfs none $SHARED",
     "umount $SHARED"},
    {"--hosts a:2,b:2",
     64,
     {"host b: binary: no ", "name its folder with --bin"},
     "b",
     "mount -t tmpfs none $BIN",
     "umount $BIN"},
    {"--hosts a:2,b:2",
     64,
     {"host b: binary: ", "is deltaserve-worker 9 (build other), on the other hosts",
      "copy one build"},
     "b",
     "mkdir /tmp/bin && cp $BIN/deltaserve-plan /tmp/bin && echo '#!/bin/sh\necho "
     "\"deltaserve-worker 9 "
     "(build other)\"' >/tmp/bin/deltaserve-worker && chmod +x /tmp/bin/* && mount --bind /tmp/bin "
     "$BIN",
     "umount $BIN"},
};

// Each names host, what was found, and the remedy.
TEST_F(HostsTest, ThePreflightNamesTheHostAndWhatItLacks) {
  const TempDir shared;
  const TestHosts hosts(2, {shared.path()});
  const std::string model = MakeModel(shared.path());
  const std::string other = shared / "other";
  ASSERT_EQ(
      RunToEnd({Binary("make_checkpoint"), "--shape", "tiny-moe", "--seed", "8", "--output", other})
          .code,
      0);
  const std::string names = absl::StrCat("SHARED=", shared.path(), " MODEL=", model,
                                         " OTHER=", other, " BIN=", DELTASERVE_BIN_DIR, "; ");
  const auto look = [&](const char* flags) {
    return RunToEnd(TestHosts::On(
        "a", HostedWorld::Command(model, absl::StrCat("--kv-memory 32M --print ", flags))));
  };
  for (const Refused& row : kRefused) {
    SCOPED_TRACE(absl::StrCat(row.flags, " | ", row.prepare));
    TestHosts::Output(row.host, names + row.prepare);
    const RunResult run = look(row.flags);
    TestHosts::Output(row.host, names + row.undo);
    EXPECT_EQ(run.code, row.code) << run.output;
    for (const std::string& part : row.said) EXPECT_THAT(run.output, HasSubstr(part));
  }
  // And nothing of them is left: the hosts will do.
  const RunResult fine = look("--hosts a:2,b:2");
  EXPECT_EQ(fine.code, 0) << fine.output;
  EXPECT_THAT(fine.output, HasSubstr("mpirun -np 4 --host a:2,b:2"));
  EXPECT_THAT(hosts.Leftovers(), IsEmpty());
}

}  // namespace
}  // namespace deltaserve::test
