#include "router/text/tool_schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nlohmann/json.hpp"
#include "proto/error.h"

namespace deltaserve {
namespace {

using Kind = ParameterType::Kind;
using testing::HasSubstr;

TEST(ToolSchemaTest, ConvertsValuesByTheirType) {
  struct Case {
    Kind kind;
    bool nullable;
    std::string raw;
    std::string json;
  };
  const std::vector<Case> cases = {
      {Kind::kText, false, "null", R"("null")"},
      {Kind::kText, false, "5", R"("5")"},
      {Kind::kText, true, "null", "null"},
      {Kind::kText, true, "None", "null"},
      {Kind::kText, true, "nONE", "null"},
      {Kind::kText, true, "null ", R"("null ")"},
      {Kind::kText, true, "nullable", R"("nullable")"},
      {Kind::kInteger, false, "None", "null"},
      {Kind::kInteger, false, "42", "42"},
      {Kind::kInteger, false, "42.0", R"("42.0")"},
      {Kind::kInteger, false, "many", R"("many")"},
      {Kind::kInteger, false, "", R"("")"},
      {Kind::kNumber, false, "60.0", "60.0"},
      {Kind::kNumber, false, "60", "60"},
      {Kind::kNumber, false, "1e3", "1e3"},
      {Kind::kNumber, false, "inf", R"("inf")"},
      {Kind::kNumber, false, "null", "null"},
      {Kind::kBoolean, false, "true", "true"},
      {Kind::kBoolean, false, "TRUE", "true"},
      {Kind::kBoolean, false, "false", "false"},
      {Kind::kBoolean, false, "yes", "false"},
      {Kind::kBoolean, false, "1", "false"},
      {Kind::kBoolean, false, "truest", "false"},
      {Kind::kBoolean, false, "null", "null"},
      {Kind::kJson, false, R"({"a":[1,2.50]})", R"({"a": [1, 2.50]})"},
      {Kind::kJson, false, "{'a': True, 'b': None}", R"({"a": true, "b": null})"},
      {Kind::kJson, false, "(1, 2)", "[1, 2]"},
      {Kind::kJson, false, "a, b", R"("a, b")"},
      {Kind::kJson, false, R"({"a": )", R"("{\"a\": ")"},
      {Kind::kJson, false, "", R"("")"},
      {Kind::kJson, false, "null", "null"},
      {Kind::kLiteral, false, "[1, 'a']", R"([1, "a"])"},
      {Kind::kLiteral, false, R"([true])", R"("[true]")"},  // JSON, but no Python literal
      {Kind::kLiteral, false, "hello", R"("hello")"},
  };
  for (const Case& c : cases) {
    const std::string json = ArgumentJson(c.raw, {c.kind, c.nullable});
    EXPECT_EQ(json, c.json) << c.raw;
    EXPECT_TRUE(nlohmann::json::accept(json)) << json;
  }
}

TEST(ToolSchemaTest, TakesTypesFromTheSchema) {
  struct Case {
    std::string schema;
    ParameterType type;
  };
  const std::vector<Case> cases = {
      {R"({"type": "string"})", {Kind::kText, false}},
      {R"({"type": " String "})", {Kind::kText, false}},
      {R"({"type": "enum"})", {Kind::kText, false}},
      {R"({"type": "integer"})", {Kind::kInteger, false}},
      {R"({"type": "int64"})", {Kind::kInteger, false}},
      {R"({"type": "unsigned long"})", {Kind::kInteger, false}},
      {R"({"type": "number"})", {Kind::kNumber, false}},
      {R"({"type": "float"})", {Kind::kNumber, false}},
      {R"({"type": "double"})", {Kind::kLiteral, false}},
      {R"({"type": "boolean"})", {Kind::kBoolean, false}},
      {R"({"type": "array", "items": {"type": "string"}})", {Kind::kJson, false}},
      {R"({"type": "object"})", {Kind::kJson, false}},
      {R"({"type": "dict[str, int]"})", {Kind::kJson, false}},
      {R"({"type": "list"})", {Kind::kJson, false}},
      {R"({"type": "null"})", {Kind::kLiteral, true}},
      {R"({"type": ["string", "null"]})", {Kind::kText, true}},
      {R"({"type": ["null", "integer"]})", {Kind::kInteger, true}},
      {R"({"type": "string", "nullable": true})", {Kind::kText, true}},
      {R"({"anyOf": [{"type": "null"}, {"type": "integer"}, {"type": "string"}]})",
       {Kind::kInteger, true}},
      {R"({"anyOf": [{"type": "string"}, {"type": "null"}]})", {Kind::kText, true}},
      {R"({"anyOf": [{"$ref": "#/x"}, {"type": "array"}]})", {Kind::kJson, false}},
      {R"({"anyOf": [{"$ref": "#/x"}]})", {Kind::kText, false}},
      {R"({"anyOf": [{"type": "null"}]})", {Kind::kText, true}},
      {R"({"type": "boolean", "anyOf": [{"type": "integer"}]})", {Kind::kBoolean, false}},
      {R"({"enum": [1, 2]})", {Kind::kText, false}},
      {R"({"type": 5})", {Kind::kText, false}},
      {R"({"anyOf": 5})", {Kind::kText, false}},
      {"{}", {Kind::kText, false}},
      {"true", {Kind::kText, false}},
  };
  for (const Case& c : cases) {
    const std::vector<std::string> tools = {
        R"({"type": "function", "function": {"name": "f", "parameters": {"type": "object", )"
        R"("properties": {"p": )" +
        c.schema + "}}}}"};
    const auto schema = ToolSchema::Parse(tools);
    ASSERT_TRUE(schema.ok()) << schema.status();
    EXPECT_EQ(schema->TypeOf("f", "p"), c.type) << c.schema;
    EXPECT_EQ(schema->TypeOf("f", "q"), ParameterType{});
    EXPECT_EQ(schema->TypeOf("g", "p"), ParameterType{});
  }
}

TEST(ToolSchemaTest, TakesBothFormsOfATool) {
  const std::vector<std::string> tools = {
      R"({"name": "bare", "parameters": {"properties": {"n": {"type": "integer"}}}})",
      R"({"type": "function", "function": {"name": "flat", "parameters": {"n": {"type": "number"}}}})",
      R"({"type": "function", "function": {"name": "none"}})",
      R"({"type": "function", "function": {"name": "null", "parameters": null}})",
      R"({"type": "function", "function": {"name": "bare", "parameters": {}}})",
  };
  const auto schema = ToolSchema::Parse(tools);
  ASSERT_TRUE(schema.ok()) << schema.status();
  EXPECT_EQ(schema->TypeOf("bare", "n").kind, Kind::kInteger);
  EXPECT_EQ(schema->TypeOf("flat", "n").kind, Kind::kNumber);
  EXPECT_EQ(schema->TypeOf("none", "n").kind, Kind::kText);
  EXPECT_TRUE(schema->Has("none"));
  EXPECT_FALSE(schema->Has("other"));
}

TEST(ToolSchemaTest, RefusesWhatIsNoToolByItsIndex) {
  const std::string good = R"({"name": "f"})";
  struct Case {
    std::string tool, field, message;
  };
  for (const Case& c : std::vector<Case>{
           {"", "tools_json[1]", "is empty: it is no JSON;"},
           {"[]", "tools_json[1]", "is []: it is no JSON object;"},
           {"{\"name\": \"f\"", "tools_json[1]", "it is no JSON;"},
           {"{}", "tools_json[1].name", "is absent"},
           {R"({"name": 5})", "tools_json[1].name", "is 5"},
           {R"({"function": {"name": ""}})", "tools_json[1].function.name", "is \"\""},
           {R"({"function": {"name": [1]}})", "tools_json[1].function.name", "is [1]"},
       }) {
    const auto schema = ToolSchema::Parse(std::vector<std::string>{good, c.tool});
    EXPECT_EQ(DetailOf(schema.status()).code(), v1::ERROR_CODE_INVALID_FIELD) << c.tool;
    EXPECT_EQ(DetailOf(schema.status()).field(), c.field) << c.tool;
    EXPECT_EQ(DetailOf(schema.status()).remedy(), kToolRemedy) << c.tool;
    EXPECT_THAT(std::string(schema.status().message()), HasSubstr(c.message));
  }
}

}  // namespace
}  // namespace deltaserve
