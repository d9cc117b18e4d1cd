// Conversations with a world of two ranks behind a router.

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "proto/error.h"
#include "tests/system/served_model.h"

namespace deltaserve::test {
namespace {

constexpr uint32_t kMaxTokens = 24;

struct ChatAnswer {
  grpc::Status status;
  std::string reasoning, content;
  std::vector<uint32_t> tokens;
  v1::Finished finished;
};

// A greedy question that returns ids; the model's weights are random, so it never ends by itself.
v1::ChatRequest Question() {
  v1::ChatRequest request;
  v1::Message* message = request.add_messages();
  message->set_role("user");
  message->add_content()->set_text("What is new?");
  request.mutable_options()->mutable_sampling()->set_temperature(0);
  request.mutable_options()->mutable_stop()->set_max_tokens(kMaxTokens);
  request.mutable_options()->mutable_stop()->set_ignore_eos(true);
  request.mutable_options()->set_return_token_ids(true);
  return request;
}

ChatAnswer Chat(v1::Inference::Stub& stub, const v1::ChatRequest& request) {
  ChatAnswer answer;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(1));
  const auto stream = stub.Chat(&context, request);
  v1::ChatEvent event;
  while (stream->Read(&event)) {
    answer.reasoning += event.delta().reasoning();
    answer.content += event.delta().content();
    answer.tokens.insert(answer.tokens.end(), event.delta().tokens().ids().begin(),
                         event.delta().tokens().ids().end());
    if (event.has_finished()) answer.finished = event.finished();
  }
  answer.status = stream->Finish();
  return answer;
}

// The template opens the reasoning, a random model never closes it: the world forces its end, on
// every rank, and the answer goes on as content.
TEST(ChatTest, AThinkingBudgetEndsTheReasoningOfARealWorld) {
  ServedModel served(2);
  const ChatAnswer endless = Chat(served.inference(), Question());
  ASSERT_TRUE(endless.status.ok()) << endless.status.error_message();
  EXPECT_EQ(endless.content, "");
  EXPECT_EQ(endless.finished.usage().reasoning_tokens(), kMaxTokens);

  v1::ChatRequest request = Question();
  request.set_thinking_budget(6);
  const ChatAnswer answer = Chat(served.inference(), request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.finished.reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_NE(answer.reasoning, "");
  EXPECT_EQ(answer.reasoning.find('<'), std::string::npos) << answer.reasoning;
  EXPECT_NE(answer.content, "");
  ASSERT_EQ(answer.tokens.size(), kMaxTokens);
  EXPECT_EQ(std::vector(answer.tokens.begin(), answer.tokens.begin() + 6),
            std::vector(endless.tokens.begin(), endless.tokens.begin() + 6));
  EXPECT_GT(answer.finished.usage().reasoning_tokens(), 6U);
  EXPECT_LE(answer.finished.usage().reasoning_tokens(), 10U);

  // What the model now writes as content, cut at a string of it; the world is empty at once.
  const std::string stop = Middle(answer.content);
  request.mutable_options()->add_stop_strings(stop);
  const ChatAnswer cut = Chat(served.inference(), request);
  ASSERT_TRUE(cut.status.ok()) << cut.status.error_message();
  EXPECT_EQ(cut.finished.reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(cut.finished.match().stop_string(), stop);
  EXPECT_EQ(cut.content, answer.content.substr(0, answer.content.find(stop)));
  EXPECT_EQ(served.WaitUntilEmpty().load().kv_blocks_used(), 0U);

  request.mutable_messages(0)->set_role("oracle");
  const ChatAnswer bad = Chat(served.inference(), request);
  EXPECT_EQ(bad.status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(DetailOf(bad.status).field(), "messages[0].role");
}

}  // namespace
}  // namespace deltaserve::test
