#include "router/service/request_text.h"

#include "deltaserve/v1/inference.pb.h"
#include "gtest/gtest.h"

namespace deltaserve {
namespace {

// The path that is found in `bytes` of a ChatRequest; "none" where there is none.
std::string Found(const std::string& bytes) {
  const auto bad = FindTextNotUtf8(bytes, *v1::ChatRequest::descriptor());
  return bad.has_value() ? bad->field + "=" + bad->value : "none";
}

TEST(RequestTextTest, NamesTheFirstTextThatIsNotUtf8) {
  v1::ChatRequest request;
  request.mutable_options()->add_stop_strings("good \xc3\xa9");
  request.mutable_options()->mutable_stop()->set_max_tokens(4);
  v1::Message* message = request.add_messages();
  message->add_content()->mutable_media()->set_data("\xff", 1);  // bytes may be anything
  message->add_content()->set_text("good");
  const std::string good = request.SerializeAsString();
  EXPECT_EQ(Found(good), "none");
  // A second message, of two parts.
  EXPECT_EQ(Found(good + "\x12\x0a\x12\x03\x0a\x01x\x12\x03\x0a\x01\xff"),
            "messages[1].content[1].text=\xff");
  EXPECT_EQ(Found("\x0a\x0a\x2a\x01x\x2a\x01y\x2a\x02\xc3\x28"), "options.stop_strings[2]=\xc3(");
  EXPECT_EQ(Found("\x22\x01\xff\x32\x01\xfe"), "tool_choice_json=\xff");
}

TEST(RequestTextTest, BytesThatAreNoMessageHoldNoText) {
  for (const std::string bytes :
       {"", "\x22\x05\xff", "\x22", "\xff\xff\xff", "\x0f\x01", "\x12\x02\xff\xfe"}) {
    EXPECT_EQ(Found(bytes), "none") << bytes;
  }
}

}  // namespace
}  // namespace deltaserve
