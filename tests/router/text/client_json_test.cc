#include "router/text/client_json.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/error.h"
#include "router/text/json_text.h"

namespace deltaserve {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<nlohmann::ordered_json> Read(const std::string& text, size_t max_values = 200'000) {
  return ReadClientJson(text, {.field = "args", .remedy = "send JSON", .max_values = max_values});
}

std::string Nested(int depth) { return std::string(depth, '[') + std::string(depth, ']'); }

std::string Members(size_t count) {
  std::string text = "{";
  for (size_t i = 0; i < count; ++i) absl::StrAppend(&text, i == 0 ? "" : ",", "\"", i, "\":1");
  return text + "}";
}

TEST(ClientJsonTest, ReadsWhatNlohmannReads) {
  for (const std::string text :
       {"null", "true", "-5", "18446744073709551615", "-9223372036854775808", "1.5", "1e3", "-0.0",
        "\"\\ud83e\\udd99\"", "[]", "{}", "[[],[1,[2]],{}]",
        R"({"z":1,"a":{"b":[{"c":null},"x"]},"":[true,false]})", " [ 1 , 2 ] ",
        R"({"a":1,"b":2,"a":{"c":3},"d":4})", R"({"a":[1],"a":[]})"}) {
    const auto read = Read(text);
    ASSERT_TRUE(read.ok()) << text << ": " << read.status();
    const auto expected = nlohmann::ordered_json::parse(text);
    EXPECT_EQ(*read, expected) << text;
    EXPECT_EQ(read->dump(), expected.dump());
  }
}

TEST(ClientJsonTest, RefusesByNameAndValue) {
  const struct {
    std::string text, field, value, problem;
  } kCases[] = {
      {"", "args", "empty", "no JSON"},
      {"{\"a\": ", "args", "{\"a\": ", "no JSON"},
      {"[1] 2", "args", "[1] 2", "no JSON"},
      {"\"\\ud800\"", "args", "\"\\ud800\"", "no JSON"},
      {"NaN", "args", "NaN", "no JSON"},
      {"18446744073709551616", "args", "18446744073709551616", "beyond 64 bits"},
      {"[-9223372036854775809]", "args[0]", "-9223372036854775809", "beyond 64 bits"},
      {R"({"a": [1, {"b": 2, "c": 12345678901234567890123}]})", "args.a[1].c",
       "12345678901234567890123", "beyond 64 bits"},
      {R"({"a": [[], 1e999]})", "args.a[1]", "1e999", "beyond a double"},
      {std::string(400, '9'), "args", std::string(197, '9') + "...", "beyond 64 bits"},
  };
  for (const auto& test : kCases) {
    const absl::Status status = Read(test.text).status();
    EXPECT_EQ(DetailOf(status).code(), v1::ERROR_CODE_INVALID_FIELD) << test.text;
    EXPECT_EQ(DetailOf(status).field(), test.field) << test.text;
    EXPECT_EQ(DetailOf(status).value(), test.value) << test.text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(test.problem)) << test.text;
    EXPECT_FALSE(DetailOf(status).remedy().empty());
  }
}

TEST(ClientJsonTest, DepthMembersAndValuesAreBounded) {
  EXPECT_TRUE(Read(Nested(kMaxJsonDepth)).ok());
  EXPECT_TRUE(Read(Members(kMaxJsonMembers)).ok());
  EXPECT_TRUE(Read("[1,[2],{\"a\":3}]", 6).ok());
  const struct {
    std::string text, field, problem;
    size_t max_values;
  } kCases[] = {
      {Nested(kMaxJsonDepth + 1), "args", "more than 100 lists and objects", 200'000},
      {Nested(1'000'000), "args", "more than 100 lists and objects", 200'000},
      {absl::StrCat("[1,{\"a\":", Members(kMaxJsonMembers + 1), "}]"), "args[1].a",
       "more than 4096 members", 200'000},
      {"[1,[2],{\"a\":3}]", "args", "more than 5 values", 5},
      {"{\"a\":1,\"a\":2}", "args", "more than 2 values", 2},
  };
  for (const auto& test : kCases) {
    const absl::Status status = Read(test.text, test.max_values).status();
    EXPECT_EQ(DetailOf(status).field(), test.field);
    EXPECT_THAT(std::string(status.message()), HasSubstr(test.problem));
  }
  // Each repeat counts as no member.
  std::string repeats = "{";
  for (size_t i = 0; i < 2 * kMaxJsonMembers; ++i) repeats += "\"a\":1,";
  EXPECT_EQ(Read(repeats + "\"b\":2}")->dump(), R"({"a":1,"b":2})");
}

TEST(ClientJsonTest, ALargestTextTakesNoTimeToSpeakOf) {
  std::string text = "[";
  for (int i = 0; i < 48; ++i) absl::StrAppend(&text, i == 0 ? "" : ",", Members(kMaxJsonMembers));
  const absl::Time start = absl::Now();
  EXPECT_TRUE(Read(text + "]").ok());
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));  // of 0.1, but searching each key takes 2
}

TEST(ClientJsonTest, AnObjectIsAskedFor) {
  const ClientJsonSource source = {.field = "args", .remedy = "send an object"};
  EXPECT_EQ(ReadClientObject("{\"a\":1}", source)->dump(), "{\"a\":1}");
  for (const std::string text : {"[]", "1", "null", "", "{"}) {
    const absl::Status status = ReadClientObject(text, source).status();
    EXPECT_EQ(DetailOf(status).field(), "args") << text;
    EXPECT_EQ(DetailOf(status).remedy(), "send an object") << text;
  }
}

TEST(ClientJsonTest, MembersOfALineAreFields) {
  const ClientJsonSource line = {.field = "line", .remedy = "", .members_are_fields = true};
  const auto field = [&line](const std::string& text) {
    return DetailOf(ReadClientJson(text, line).status()).field();
  };
  EXPECT_EQ(field(R"({"ids": [1, 99999999999999999999]})"), "ids[1]");
  EXPECT_EQ(field(R"({"ids": {"a": 99999999999999999999}})"), "ids.a");
  EXPECT_EQ(field("99999999999999999999"), "line");
  EXPECT_EQ(field(Members(kMaxJsonMembers + 1)), "line");
}

}  // namespace
}  // namespace deltaserve
