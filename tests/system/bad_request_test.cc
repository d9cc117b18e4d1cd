// Requests of any kind that cannot be: each is refused by name, and the next good one is answered.

#include <signal.h>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/system/bad_requests.h"

namespace deltaserve::test {
namespace {

grpc::Status End(grpc::ClientReader<v1::GenerateEvent>& reader) {
  v1::GenerateEvent event;
  while (reader.Read(&event)) {
  }
  return reader.Finish();
}

TEST(BadRequestTest, EachIsRefusedByNameAndTheNextGoodOneIsAnswered) {
  ServedModel served(2);
  const auto good = [&] {
    grpc::ClientContext context;
    return Generate(served.inference(), GreedyRequest("still here", 3), context);
  };
  const Answer first = good();
  ASSERT_TRUE(first.status.ok()) << first.status.error_message();
  std::vector<BadRequest> table = BadRequests(served);
  table.push_back(OversizedRequest());
  RecordProperty("rows", static_cast<int>(table.size()));
  // Over the same connection: what harms it ends this call.
  grpc::ClientContext context;
  const auto beside = served.inference().Generate(&context, GreedyRequest("beside", 16000));
  for (const BadRequest& bad : table) {
    EXPECT_EQ(Fault(bad, bad.send(served)), "");
    const Answer answer = good();
    ASSERT_TRUE(answer.status.ok()) << bad.name << ": " << answer.status.error_message();
    EXPECT_EQ(answer.tokens.size(), first.tokens.size()) << bad.name;
    if (!RanksAreOnGpus()) {
      EXPECT_EQ(answer.tokens, first.tokens) << bad.name;
    }
  }
  context.TryCancel();
  EXPECT_EQ(End(*beside).error_code(), grpc::CANCELLED);
  EXPECT_EQ(served.WaitUntilEmpty().load().kv_blocks_used(), 0U);

  // What comes while they drain is told where to go instead. One answer keeps them from their end.
  grpc::ClientContext last_context;
  const auto last = served.inference().Generate(&last_context, GreedyRequest("last", 16000));
  v1::GenerateEvent event;
  ASSERT_TRUE(last->Read(&event));
  served.router().Signal(SIGTERM);
  served.world().Signal(SIGUSR1);
  for (const BadRequest& late : LateRequests()) {
    // Until the signal has come.
    std::string fault = Fault(late, late.send(served));
    const absl::Time deadline = absl::Now() + kStartTimeout;
    while (!fault.empty() && absl::Now() < deadline) fault = Fault(late, late.send(served));
    EXPECT_EQ(fault, "");
  }
  last_context.TryCancel();
  EXPECT_EQ(End(*last).error_code(), grpc::CANCELLED);
  EXPECT_EQ(served.router().Wait(kStartTimeout), 0) << served.router().Log();
  EXPECT_EQ(served.world().Wait(kStartTimeout), 0) << served.world().Log();
}

}  // namespace
}  // namespace deltaserve::test
