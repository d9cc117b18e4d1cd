#include "tests/system/hosts/failure.h"

#include <signal.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "tests/system/hosts/streams.h"

namespace deltaserve::test {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int kStreams = 16;
constexpr uint32_t kTokens = 6000;  // more than a world makes before a test strikes and it ends
constexpr uint32_t kCompared = 20;  // of each answer
constexpr absl::Duration kServedTimeout = absl::Seconds(90);

void ExpectLost(const Answer& answer) {
  EXPECT_EQ(answer.status.error_code(), grpc::UNAVAILABLE) << answer.status.error_message();
  const v1::ErrorDetail detail = DetailOf(answer.status);
  EXPECT_EQ(detail.code(), v1::ERROR_CODE_WORLD_LOST) << answer.status.error_message();
  EXPECT_TRUE(detail.retryable());
  EXPECT_TRUE(answer.in_order);
  EXPECT_GE(answer.tokens.size(), 3U);
}

// The new world's answers begin with what the lost one gave.
void ExpectBeginnings(HostedWorld& world, const std::vector<Answer>& lost) {
  Streams streams(world.inference(), kStreams, kCompared);
  const std::vector<Answer>& again = streams.Finish();
  for (size_t i = 0; i < lost.size(); ++i) {
    SCOPED_TRACE(i);
    ASSERT_TRUE(again[i].status.ok()) << again[i].status.error_message();
    const size_t count = std::min<size_t>(lost[i].tokens.size(), kCompared);
    const auto beginning = [count](const Answer& answer) {
      return std::vector<uint32_t>(answer.tokens.begin(),
                                   answer.tokens.begin() + static_cast<std::ptrdiff_t>(count));
    };
    EXPECT_EQ(beginning(lost[i]), beginning(again[i]));
  }
}

}  // namespace

void Note(const std::string& name, absl::Duration value) {
  const std::string text = absl::FormatDuration(absl::Trunc(value, absl::Milliseconds(10)));
  ::testing::Test::RecordProperty(name, text);
  std::printf("[ MEASURED ] %s: %s\n", name.c_str(), text.c_str());
}

void ExpectRecovery(const Failure& failure) {
  HostedWorld world({"--kv-memory", "256M", "--slots", "16"});
  Streams streams(world.inference(), kStreams, kTokens);
  streams.WaitForTokens(3);
  const std::map<pid_t, std::string> before = WorldProcesses();
  ASSERT_EQ(before.size(), 6U) << "four ranks, mpirun, orted";

  const absl::Time struck = absl::Now();
  failure.strike(world);
  const auto gone = HostedWorld::WaitUntilGone(before, 3 * failure.promised);
  ASSERT_TRUE(gone.has_value()) << world.supervisor().Log();
  Note("processes gone on both hosts", *gone);
  if (failure.mend) failure.mend(world);
  const std::vector<Answer>& lost = streams.Finish();
  Note("streams ended", streams.last_end() - struck);
  for (const Answer& answer : lost) ExpectLost(answer);

  world.WaitUntilServed(kServedTimeout);
  Note("served again", absl::Now() - struck);
  EXPECT_THAT(world.supervisor().Log(), HasSubstr("root cause: " + failure.cause));
  EXPECT_TRUE(world.router().running());
  ExpectBeginnings(world, lost);

  world.supervisor().Signal(SIGTERM);
  EXPECT_EQ(world.supervisor().Wait(absl::Seconds(30)), 0) << world.supervisor().Log();
  EXPECT_THAT(WorldProcesses(), IsEmpty());
  EXPECT_THAT(world.hosts().Leftovers(), IsEmpty());
}

}  // namespace deltaserve::test
