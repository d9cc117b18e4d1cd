#include "router/text/json_text.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace deltaserve {
namespace {

struct Case {
  std::string text;
  std::optional<std::string> json;
};

TEST(JsonTextTest, NormalizesAsPythonDoesButKeepsNumbers) {
  const std::vector<Case> cases = {
      {"1", "1"},
      {" [1,2 ,\n3]\n", "[1, 2, 3]"},
      {R"({"b":1,"a":{"c":[]}})", R"({"b": 1, "a": {"c": []}})"},
      {R"([{},[],"",null,true,false])", R"([{}, [], "", null, true, false])"},
      {"[1.50, 1e5, -0.0, 60.0, 1E+2]", "[1.50, 1e5, -0.0, 60.0, 1E+2]"},
      {"123456789012345678901234567890", "123456789012345678901234567890"},
      {"[18446744073709551615, -9223372036854775808]",
       "[18446744073709551615, -9223372036854775808]"},
      {R"("\u00e9\/\ud83d\ude01\t")", "\"\xC3\xA9/\xF0\x9F\x98\x81\\t\""},
      {R"({"a":1,"a":2})", R"({"a": 1, "a": 2})"},
      {"", {}},
      {"[1,]", {}},
      {"{'a': 1}", {}},
      {"NaN", {}},
      {"1e400", {}},
      {"\"\\ud800\"", {}},
      {"[1] 2", {}},
      {"01", {}},
      {std::string(kMaxJsonDepth, '[') + std::string(kMaxJsonDepth, ']'),
       std::string(kMaxJsonDepth, '[') + std::string(kMaxJsonDepth, ']')},
      {std::string(kMaxJsonDepth + 1, '[') + std::string(kMaxJsonDepth + 1, ']'), {}},
      {std::string(1'000'000, '['), {}},
  };
  for (const Case& c : cases) EXPECT_EQ(NormalizeJson(c.text), c.json) << c.text.substr(0, 80);
}

TEST(JsonTextTest, IntegersAreThoseOfPython) {
  const std::vector<Case> cases = {
      {"5", "5"},
      {" 5\n", "5"},
      {"+5", "5"},
      {"-5", "-5"},
      {"007", "7"},
      {"-0", "0"},
      {"1_000", "1000"},
      {"000", "0"},
      {"", {}},
      {"-", {}},
      {"5.0", {}},
      {"1e3", {}},
      {"1__0", {}},
      {"_1", {}},
      {"1_", {}},
      {"0x10", {}},
      {"five", {}},
      {"5 5", {}},
      {"--5", {}},
      {"true", {}},
      {"- 5", {}},
      {std::string(400, '9'), {}},
      {"123456789012345678901234567890", "123456789012345678901234567890"},
  };
  for (const Case& c : cases) EXPECT_EQ(PythonIntToJson(c.text), c.json) << c.text;
}

TEST(JsonTextTest, NumbersKeepTheirSpellingWhereItIsJson) {
  const std::vector<Case> cases = {
      {"60.0", "60.0"},   {"60", "60"},
      {"1e5", "1e5"},     {"1E-07", "1E-07"},
      {"-1.50", "-1.50"}, {" 2.5 ", "2.5"},
      {".5", "0.5"},      {"5.", "5.0"},
      {"+5.1", "5.1"},    {"1_000.5", "1000.5"},
      {"007.5", "7.5"},   {"-.5e+3", "-0.5e+3"},
      {"-0.0", "-0.0"},   {"1e-400", "1e-400"},
      {"", {}},           {".", {}},
      {"1e", {}},         {"e5", {}},
      {"inf", {}},        {"NaN", {}},
      {"1e400", {}},      {"1._5", {}},
      {"1_.5", {}},       {"1,5", {}},
      {"0x1p3", {}},      {"1.5.2", {}},
      {"5%", {}},
  };
  for (const Case& c : cases) EXPECT_EQ(PythonFloatToJson(c.text), c.json) << c.text;
}

TEST(JsonTextTest, EscapesWhatJsonForbidsAndNothingElse) {
  EXPECT_EQ(JsonString(std::string("a\"\\\b\f\n\r\t\0\x1F\x7F/é", 14)),
            "\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0000\\u001f\x7F/é\"");
}

}  // namespace
}  // namespace deltaserve
