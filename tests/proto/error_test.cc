#include "proto/error.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/grpc_status.h"

namespace deltaserve {
namespace {

using ::testing::EndsWith;

// What a gRPC client takes of a call's metadata, all of it.
constexpr size_t kMetadataBytes = 8192;

std::string Repeated(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

// The bytes of a status on the wire: the message with each byte that is not plain as %XX, the
// details in base64.
size_t WireBytes(const grpc::Status& status) {
  return 3 * status.error_message().size() + (status.error_details().size() + 2) / 3 * 4;
}

TEST(ErrorTest, TextIsCutBetweenCharactersAndMadeUtf8) {
  const struct {
    std::string text;
    size_t most_bytes;
    std::string shown;
  } kCases[] = {
      {"", 3, ""},
      {"abc", 3, "abc"},
      {"abcd", 3, "..."},
      {"abcdef", 5, "ab..."},
      {"\xc3\xa9\xc3\xa9\xc3\xa9", 6, "\xc3\xa9\xc3\xa9\xc3\xa9"},
      {"\xc3\xa9\xc3\xa9\xc3\xa9", 5, "\xc3\xa9..."},
      {"a\xf0\x9f\xa6\x99zzzz", 7, "a..."},
      {"a\xf0\x9f\xa6\x99zzzz", 8, "a\xf0\x9f\xa6\x99..."},
      {"a\xff"
       "b",
       9,
       "a\xef\xbf\xbd"
       "b"},
      {"\xf0\x9f\xa6", 9, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
      {"\xf0\x9f\xa6", 8, "\xef\xbf\xbd..."},
      {"\xed\xa0\x80", 20, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
  };
  for (const auto& test : kCases) {
    EXPECT_EQ(ErrorText(test.text, test.most_bytes), test.shown) << test.most_bytes;
  }
}

TEST(ErrorTest, ShortTextsStayAsTheyAre) {
  const absl::Status status = InvalidField("top_p", "7", "it is above 1", "use 1 for none");
  EXPECT_EQ(status.message(), "top_p is 7: it is above 1; use 1 for none");
  const v1::ErrorDetail detail = DetailOf(status);
  EXPECT_EQ(detail.field(), "top_p");
  EXPECT_EQ(detail.value(), "7");
  EXPECT_EQ(detail.remedy(), "use 1 for none");
}

TEST(ErrorTest, AnyErrorFitsIntoMetadataAndKeepsItsCodeAndRemedy) {
  for (const std::string unit : {"x", "\xc3\xa9", "\xf0\x9f\xa6\x99", "\xff", "%"}) {
    const std::string text = Repeated(unit, 30000);
    v1::ErrorDetail detail;
    detail.set_code(v1::ERROR_CODE_INVALID_FIELD);
    detail.set_field(text);
    detail.set_value(text);
    detail.set_remedy(text);
    detail.set_world(text);
    const struct {
      absl::Status status;
      std::string remedy;  // stands in the message
    } kCases[] = {
        {InvalidField(text, text, text, "shorten it"), "; shorten it"},
        {InvalidField(text, text, text, text), "..."},
        {UnsupportedField(text, text, "leave it out"), ": leave it out"},
        {UnsupportedField(text, text, text), "..."},
        {MakeError(detail, text), "..."},
        {absl::InvalidArgumentError(text), "..."},
    };
    for (const auto& test : kCases) {
      const grpc::Status status = ToGrpcStatus(test.status, text);
      EXPECT_LT(WireBytes(status), kMetadataBytes);
      EXPECT_THAT(status.error_message(), EndsWith(test.remedy));
      const absl::Status back = FromGrpcStatus(status);
      EXPECT_TRUE(back.GetPayload(kErrorDetailUrl).has_value());
      EXPECT_EQ(DetailOf(back).code(), DetailOf(test.status).code());
      EXPECT_THAT(DetailOf(back).request_id(), EndsWith("..."));
    }
  }
}

}  // namespace
}  // namespace deltaserve
