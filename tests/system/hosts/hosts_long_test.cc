// How worlds over two hosts end and return: what takes long to be noticed.

#include <signal.h>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "tests/system/hosts/failure.h"
#include "tests/system/hosts/hosted_world.h"
#include "tests/system/hosts/streams.h"

namespace deltaserve::test {
namespace {

class HostsLongTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!WhyNoHosts().empty()) GTEST_SKIP() << WhyNoHosts();
  }
};

TEST_F(HostsLongTest, TheFirstRankIsKilled) {
  ExpectRecovery(
      {.cause = "rank 0 on a: ", .promised = absl::Seconds(10), .strike = [](HostedWorld& world) {
         kill(world.RankPids()[0], SIGKILL);
       }});
}

TEST_F(HostsLongTest, ARankIsStopped) {
  ExpectRecovery({.cause = "rank 2 on b: nothing heard from it for 10s",
                  .promised = absl::Seconds(15),
                  .strike = [](HostedWorld& world) { kill(world.RankPids()[2], SIGSTOP); }});
}

TEST_F(HostsLongTest, TheFirstRankIsStopped) {
  ExpectRecovery({.cause = "rank 0 on a: nothing heard from it for 10s",
                  .promised = absl::Seconds(15),
                  .strike = [](HostedWorld& world) { kill(world.RankPids()[0], SIGSTOP); }});
}

TEST_F(HostsLongTest, TheLinkOfAHostIsCut) {
  ExpectRecovery({.cause = "ranks 2, 3 on b: mpirun lost its daemon there",
                  .promised = absl::Seconds(15),
                  .strike = [](HostedWorld&) { TestHosts::SetLink("b", false); },
                  .mend = [](HostedWorld&) { TestHosts::SetLink("b", true); }});
}

// Rank 0, mpirun and its supervisor are cut off from the other host and from the router.
TEST_F(HostsLongTest, TheLinkOfTheFirstHostIsCut) {
  ExpectRecovery({.cause = "ranks 2, 3 on b: mpirun lost its daemon there",
                  .promised = absl::Seconds(15),
                  .strike = [](HostedWorld&) { TestHosts::SetLink("a", false); },
                  .mend = [](HostedWorld&) { TestHosts::SetLink("a", true); }});
}

TEST_F(HostsLongTest, TheDaemonOfAHostIsKilled) {
  ExpectRecovery({.cause = "ranks 2, 3 on b: mpirun lost its daemon there",
                  .promised = absl::Seconds(10),
                  .strike = [](HostedWorld&) { kill(HostedWorld::PidOf("orted"), SIGKILL); }});
}

TEST_F(HostsLongTest, MpirunIsKilled) {
  ExpectRecovery({.cause = "mpirun on a: ended by SIGKILL",
                  .promised = absl::Seconds(10),
                  .strike = [](HostedWorld&) { kill(HostedWorld::PidOf("mpirun"), SIGKILL); }});
}

TEST_F(HostsLongTest, ALinkOf100MbitOnlySlowsAWorld) {
  HostedWorld world({"--kv-memory", "64M", "--slots", "16"});
  const auto answer = [&world] {
    const absl::Time start = absl::Now();
    Streams streams(world.inference(), 16, 60);
    for (const Answer& one : streams.Finish()) {
      EXPECT_TRUE(one.status.ok()) << one.status.error_message();
      EXPECT_EQ(one.tokens.size(), 60U);
      EXPECT_TRUE(one.in_order);
    }
    return absl::Now() - start;
  };
  Note("16 answers of 60 tokens", answer());
  TestHosts::LimitLink("a", "100mbit");
  TestHosts::LimitLink("b", "100mbit");
  Note("the same over 100 Mbit/s", answer());
  EXPECT_TRUE(world.supervisor().running());
  EXPECT_EQ(world.supervisor().Log().find("lost"), std::string::npos) << world.supervisor().Log();
}

}  // namespace
}  // namespace deltaserve::test
