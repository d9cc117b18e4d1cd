#include "router/text/python_literal.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "router/text/json_text.h"

namespace deltaserve {
namespace {

struct Case {
  std::string text;
  std::optional<std::string> json;
};

// The expected values were compared with json.dumps(ast.literal_eval(text), ensure_ascii=False) of
// Python 3.11; numbers keep their spelling here.
TEST(PythonLiteralTest, ReadsLiteralsAndNothingElse) {
  const std::vector<Case> cases = {
      {"None", "null"},
      {" True ", "true"},
      {"[True, False, None]", "[true, false, null]"},
      {"{'a': 1, \"b\": [1.50, -2]}", R"({"a": 1, "b": [1.50, -2]})"},
      {"()", "[]"},
      {"(1)", "1"},
      {"(1,)", "[1]"},
      {"1, 2", "[1, 2]"},
      {"1,", "[1]"},
      {"((1, 2), [3, ], {})", "[[1, 2], [3], {}]"},
      {"{1: 'a', None: 'b', True: 'c', 1.5: 'd'}",
       R"({"1": "a", "null": "b", "true": "c", "1.5": "d"})"},
      {"['it''s', \"it's\", 'a' 'b']", R"(["its", "it's", "ab"])"},
      {R"('\n\t\\\'\"\x41\u00e9\101\q')",
       "\"\\n\\t\\\\'\\\"A\xC3\xA9"
       "A\\\\q\""},
      {R"('\U0001f601')", "\"\xF0\x9F\x98\x81\""},
      {R"(r'\n\'')", R"("\\n\\'")"},
      {"u'x'", "\"x\""},
      {"'''a\n'b'''", "\"a\\n'b\""},
      {"'a\\\nb'", "\"ab\""},
      {"[1, # one\n 2\n]", "[1, 2]"},
      {"# one\n1 # two\n#three", "1"},
      {"1, # two\n2", {}},
      {"0x1F", "31"},
      {"0o17", "15"},
      {"0b_101", "5"},
      {"-0x10", "-16"},
      {"- 5", "-5"},
      {"+5", "5"},
      {"1_000", "1000"},
      {"5.", "5.0"},
      {".5e-3", "0.5e-3"},
      {"0", "0"},
      {"00", "0"},
      {"{'a': {'b': ('c', None)}}", R"({"a": {"b": ["c", null]}})"},
      {"{'a': 1, 'a': 2}", R"({"a": 1, "a": 2})"},
      {"'日本'", "\"日本\""},
      {"", {}},
      {"true", {}},
      {"null", {}},
      {"hello", {}},
      {"hello()", {}},
      {"[1, 2", {}},
      {"[1 2]", {}},
      {"[,]", {}},
      {",", {}},
      {"{,}", {}},
      {"{'a'}", {}},
      {"{[1]: 2}", {}},
      {"b'x'", {}},
      {"f'x'", {}},
      {"'x", {}},
      {"'x\ny'", {}},
      {R"('\ud800')", {}},
      {R"('\N{DASH}')", {}},
      {R"('\x4')", {}},
      {"1j", {}},
      {"1 + 2", {}},
      {"--5", {}},
      {"-True", {}},
      {"007", {}},
      {"1e400", {}},
      {"0x", {}},
      {"0xFFFFFFFFFFFFFFFF", "18446744073709551615"},
      {"0x1FFFFFFFFFFFFFFFF", {}},
      {"1\n2", {}},
      {std::string("'\0'", 3), {}},
      {std::string("r'\\\0'", 5), {}},
      {std::string(kMaxJsonDepth, '[') + std::string(kMaxJsonDepth, ']'),
       std::string(kMaxJsonDepth, '[') + std::string(kMaxJsonDepth, ']')},
      {std::string(kMaxJsonDepth + 1, '[') + std::string(kMaxJsonDepth + 1, ']'), {}},
      {std::string(1'000'000, '('), {}},
      {std::string(1'000'000, '-'), {}},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(PythonLiteralToJson(c.text), c.json) << c.text.substr(0, 80);
  }
}

}  // namespace
}  // namespace deltaserve
