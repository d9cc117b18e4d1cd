// Requests of any kind that cannot be: each is refused by name, and the next good one is answered.

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/system/bad_requests.h"

namespace deltaserve::test {
namespace {

TEST(BadRequestTest, EachIsRefusedByNameAndTheNextGoodOneIsAnswered) {
  ServedModel served(2);
  const auto good = [&] {
    grpc::ClientContext context;
    return Generate(served.inference(), GreedyRequest("still here", 3), context);
  };
  const Answer first = good();
  ASSERT_TRUE(first.status.ok()) << first.status.error_message();
  const std::vector<BadRequest> table = BadRequests(served);
  RecordProperty("rows", static_cast<int>(table.size()));
  // Over the same connection: what harms it ends this call.
  grpc::ClientContext context;
  const auto beside = served.inference().Generate(&context, GreedyRequest("beside", 16000));
  for (const BadRequest& bad : table) {
    EXPECT_EQ(Fault(bad, bad.send(served)), "");
    const Answer answer = good();
    ASSERT_TRUE(answer.status.ok()) << bad.name << ": " << answer.status.error_message();
    EXPECT_EQ(answer.tokens, first.tokens) << bad.name;
  }
  context.TryCancel();
  v1::GenerateEvent event;
  while (beside->Read(&event)) {
  }
  EXPECT_EQ(beside->Finish().error_code(), grpc::CANCELLED);
  EXPECT_EQ(served.WaitUntilEmpty().load().kv_blocks_used(), 0U);
}

}  // namespace
}  // namespace deltaserve::test
