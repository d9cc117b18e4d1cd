// Conversations through a router's server.

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/error.h"
#include "proto/text_digest.h"
#include "router/text/text_assets.h"
#include "tests/router/service/router_fixture.h"

namespace deltaserve {
namespace {

using ::testing::HasSubstr;

using RouterChatTest = RouterServerTest;

v1::ChatRequest Question(const std::string& text) {
  v1::ChatRequest request;
  v1::Message* message = request.add_messages();
  message->set_role("user");
  message->add_content()->set_text(text);
  return request;
}

TEST_F(RouterChatTest, TokenizesAConversationAndShowsItsPrompt) {
  v1::TokenizeRequest request;
  *request.mutable_chat() = Question(" hi ");
  v1::TokenizeResponse response;
  ASSERT_TRUE(stub_->Tokenize(Context().get(), request, &response).ok());
  EXPECT_EQ(response.rendered(),
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n");
  EXPECT_EQ(response.tokens().ids_size(), static_cast<int>(Ids(response.rendered()).size()));
  request.mutable_chat()->mutable_messages(0)->set_role("wizard");
  const absl::Status bad = FromGrpcStatus(stub_->Tokenize(Context().get(), request, &response));
  EXPECT_EQ(DetailOf(bad).field(), "messages[0].role");
  request.clear_chat();
  EXPECT_EQ(DetailOf(FromGrpcStatus(stub_->Tokenize(Context().get(), request, &response))).field(),
            "input");
}

TEST_F(RouterChatTest, TokenizeChecksAConversationAsChatDoes) {
  const struct {
    std::string field;
    std::function<void(v1::TokenizeRequest&)> spoil;
  } kCases[] = {
      {"add_special_tokens", [](v1::TokenizeRequest& r) { r.set_add_special_tokens(true); }},
      {"sampling.top_p",
       [](v1::TokenizeRequest& r) {
         r.mutable_chat()->mutable_options()->mutable_sampling()->set_top_p(7);
       }},
      {"model",
       [](v1::TokenizeRequest& r) { r.mutable_chat()->mutable_options()->set_model("other"); }},
      {"chat.options.model",
       [this](v1::TokenizeRequest& r) {
         r.set_model(world_.description().models(0).id());
         r.mutable_chat()->mutable_options()->set_model("other");
       }},
      {"thinking_budget",
       [](v1::TokenizeRequest& r) {
         r.mutable_chat()->set_template_args_json("{\"enable_thinking\": false}");
         r.mutable_chat()->set_thinking_budget(5);
       }},
      {"template_args_json",
       [](v1::TokenizeRequest& r) {
         r.mutable_chat()->set_template_args_json("{\"a\":" + std::string(80000, '[') +
                                                  std::string(80000, ']') + "}");
       }},
  };
  v1::TokenizeResponse response;
  for (const auto& test : kCases) {
    v1::TokenizeRequest request;
    *request.mutable_chat() = Question("hi");
    request.mutable_chat()->set_thinking_budget(5);
    EXPECT_TRUE(stub_->Tokenize(Context().get(), request, &response).ok());
    test.spoil(request);
    const absl::Status bad = FromGrpcStatus(stub_->Tokenize(Context().get(), request, &response));
    EXPECT_EQ(DetailOf(bad).field(), test.field);
  }
  ExpectServes();
}

TEST_F(RouterChatTest, AnErrorReachesTheClientHoweverLongItsValue) {
  std::string text = "x";  // so that a cut after 60 or 200 bytes parts a character
  for (int i = 0; i < 20000; ++i) text += "\xc3\xa9";
  const struct {
    std::string field;
    v1::ErrorCode code;
    std::function<void(v1::ChatRequest&)> spoil;
  } kCases[] = {
      {"messages[0].role", v1::ERROR_CODE_INVALID_FIELD,
       [&text](v1::ChatRequest& r) { r.mutable_messages(0)->set_role(text); }},
      {"model", v1::ERROR_CODE_MODEL_NOT_FOUND,
       [&text](v1::ChatRequest& r) {
         r.mutable_options()->set_model(text);
         r.mutable_options()->set_request_id(text);
       }},
      {"template_args_json", v1::ERROR_CODE_INVALID_FIELD,
       [&text](v1::ChatRequest& r) { r.set_template_args_json(text); }},
      {"template_args_json.messages", v1::ERROR_CODE_INVALID_FIELD,
       [&text](v1::ChatRequest& r) {
         r.set_template_args_json("{\"messages\": \"" + text + "\"}");
       }},
  };
  for (const auto& test : kCases) {
    SCOPED_TRACE(test.field);
    v1::ChatRequest request = Question("hi");
    test.spoil(request);
    const auto context = Context();
    const auto reader = stub_->Chat(context.get(), request);
    v1::ChatEvent event;
    EXPECT_FALSE(reader->Read(&event));
    const v1::ErrorDetail detail = DetailOf(FromGrpcStatus(reader->Finish()));
    EXPECT_EQ(detail.code(), test.code);
    EXPECT_EQ(detail.field(), test.field);
    EXPECT_THAT(detail.value(), HasSubstr("\xc3\xa9..."));
  }
}

TEST_F(RouterChatTest, ChatsWithReasoningAndContentApart) {
  v1::ChatRequest request = Question("hi");
  request.mutable_options()->set_request_id("c1");
  const auto context = Context();
  const auto reader = stub_->Chat(context.get(), request);
  const auto answer = world_.Next();
  const std::vector<int32_t> prompt =
      Ids("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n");
  EXPECT_EQ(std::vector<int32_t>(answer->request.prompt_ids().begin(),
                                 answer->request.prompt_ids().end()),
            prompt);
  answer->Admit();
  const std::vector<int32_t> ids = Ids("so\n</think>\n\nhello");
  answer->Tokens(0, ids);
  answer->End(v1::FINISH_REASON_LENGTH, static_cast<uint32_t>(ids.size()));
  v1::ChatEvent event;
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.started().request_id(), "c1");
  EXPECT_EQ(event.started().prompt_tokens(), prompt.size());
  std::string reasoning, content;
  while (reader->Read(&event) && event.has_delta()) {
    reasoning += event.delta().reasoning();
    content += event.delta().content();
  }
  EXPECT_EQ(reasoning, "so");
  EXPECT_EQ(content, "hello");
  EXPECT_EQ(event.finished().reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(event.finished().usage().reasoning_tokens(), Ids("so\n</think>").size());
  EXPECT_FALSE(reader->Read(&event));
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(RouterChatTest, ScoresOfThePromptComeBeforeTheAnswer) {
  v1::ChatRequest request = Question("hi");
  request.mutable_options()->mutable_output()->set_prompt_logprobs(0);
  const auto context = Context();
  const auto reader = stub_->Chat(context.get(), request);
  const auto answer = world_.Next();
  EXPECT_TRUE(answer->request.output().has_prompt_logprobs());
  answer->Admit();
  answer->PromptScores(1, {5, 6});
  answer->Tokens(0, Ids("so"));
  answer->End(v1::FINISH_REASON_LENGTH, 1);
  v1::ChatEvent event;
  ASSERT_TRUE(reader->Read(&event) && event.has_started());
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.prompt_logprobs().first_position(), 1u);
  EXPECT_EQ(event.prompt_logprobs().tokens(1).token_id(), 6u);
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.delta().reasoning(), "so");
  while (reader->Read(&event)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(RouterChatTest, AModelWithoutATemplateRefusesConversationsAndServesPrompts) {
  world_.Stop();
  FakeWorld bare;
  bare.files().erase(kChatTemplateFile);
  bare.description().mutable_models(0)->set_text_digest(TextDigest(bare.files()));
  bare.Start();
  bare.Report(v1::WorldReport::STATE_READY, "");
  auto worlds =
      std::make_unique<WorldRegistry>(std::vector<WorldClientOptions>{{.address = bare.address()}},
                                      std::make_unique<FewestStreams>());
  server_ = *RouterServer::Start({.tick = absl::Milliseconds(5)}, std::move(worlds));
  ASSERT_TRUE(Eventually([this] { return server_->IsReady(); }));
  const auto stub = v1::Inference::NewStub(
      grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials()));
  const auto context = Context();
  const auto reader = stub->Chat(context.get(), Question("hi"));
  v1::ChatEvent event;
  EXPECT_FALSE(reader->Read(&event));
  const absl::Status status = FromGrpcStatus(reader->Finish());
  EXPECT_EQ(DetailOf(status).code(), v1::ERROR_CODE_UNSUPPORTED);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no chat_template.jinja"));
  Asked asked(*stub, Prompt("x"));
  bare.Next();
}

}  // namespace
}  // namespace deltaserve
