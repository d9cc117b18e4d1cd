#include "router/text/tool_call_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <utility>

#include "kernels/base/check.h"
#include "nlohmann/json.hpp"
#include "router/text/tags.h"
#include "tests/router/text/pieces.h"

namespace deltaserve {
namespace {

using Kind = ToolCallEvent::Kind;

struct Call {
  std::string name;
  std::string arguments;
  bool ended = false;

  friend bool operator==(const Call&, const Call&) = default;
  friend void PrintTo(const Call& call, std::ostream* stream) {
    *stream << call.name << " " << call.arguments << (call.ended ? "" : " (open)");
  }
};

struct Parsed {
  std::string content;
  std::vector<Call> calls;
};

// Puts events together and checks their order.
class Collector {
 public:
  void Take(const std::vector<ToolCallEvent>& events) {
    std::optional<Kind> last;
    for (const ToolCallEvent& event : events) {
      switch (event.kind) {
        case Kind::kContent:
          EXPECT_TRUE(parsed_.calls.empty()) << "content after a call";
          EXPECT_FALSE(event.text.empty());
          parsed_.content += event.text;
          break;
        case Kind::kCallStart:
          EXPECT_TRUE(parsed_.calls.empty() || parsed_.calls.back().ended);
          EXPECT_EQ(event.index, parsed_.calls.size());
          parsed_.calls.push_back({event.text, ""});
          break;
        case Kind::kArguments:
          EXPECT_EQ(event.index + 1, parsed_.calls.size());
          EXPECT_FALSE(event.text.empty());
          EXPECT_NE(last, Kind::kArguments) << "neighbours that are one";
          parsed_.calls.back().arguments += event.text;
          break;
        case Kind::kCallEnd:
          EXPECT_EQ(event.index + 1, parsed_.calls.size());
          parsed_.calls.back().ended = true;
          break;
      }
      last = event.kind;
    }
  }
  const Parsed& parsed() const { return parsed_; }

 private:
  Parsed parsed_;
};

Parsed Parse(const ToolSchema& schema, const Pieces& pieces) {
  ToolCallParser parser(schema);
  Collector collector;
  for (const std::string_view piece : pieces) collector.Take(parser.Add(piece));
  collector.Take(parser.Finish());
  EXPECT_EQ(parser.num_calls(), collector.parsed().calls.size());
  return collector.parsed();
}

const ToolSchema& Schema() {
  static const auto& schema = *new ToolSchema([] {
    auto parsed = ToolSchema::Parse(std::vector<std::string>{
        R"({"type": "function", "function": {"name": "f", "parameters": {"properties": {
            "s": {"type": "string"}, "t": {"type": "string"}, "i": {"type": "integer"},
            "n": {"type": "number"}, "b": {"type": "boolean"}, "o": {"type": "object"},
            "l": {"type": "array"}, "s?": {"type": ["string", "null"]},
            "i?": {"anyOf": [{"type": "null"}, {"type": "integer"}]}}}}})"});
    DS_CHECK_OK(parsed.status());
    return *std::move(parsed);
  }());
  return schema;
}

struct Sample {
  std::string text;
  std::string content;
  std::vector<std::pair<std::string, std::string>> calls;  // name, arguments
};

// One call of f in the template's form.
std::string CallOf(std::string_view parameters) {
  return "<tool_call>\n<function=f>\n" + std::string(parameters) + "</function>\n</tool_call>";
}

// One parameter in the template's form.
std::string Value(std::string_view name, std::string_view value) {
  std::string text = "<parameter=";
  text += name;
  text += ">\n";
  text += value;
  text += "\n</parameter>\n";
  return text;
}

const std::vector<Sample>& WellFormed() {
  static const auto& samples = *new std::vector<Sample>{
      {"", "", {}},
      {"no call\n", "no call\n", {}},
      {CallOf(""), "", {{"f", "{}"}}},
      {CallOf(Value("s", "x")), "", {{"f", R"({"s": "x"})"}}},
      {"I look.\n\n" + CallOf(Value("s", "x")), "I look.\n\n", {{"f", R"({"s": "x"})"}}},
      {CallOf(Value("s", "x") + Value("t", "y")), "", {{"f", R"({"s": "x", "t": "y"})"}}},
      {CallOf(Value("i", "5") + Value("n", "60.0") + Value("b", "True")),
       "",
       {{"f", R"({"i": 5, "n": 60.0, "b": true})"}}},
      {CallOf(Value("i", "five") + Value("n", "-1.50e3") + Value("b", "no")),
       "",
       {{"f", R"({"i": "five", "n": -1.50e3, "b": false})"}}},
      {CallOf(Value("o", "{\"a\": {\"b\": [1, {\"c\": null}]}}") + Value("l", "[]")),
       "",
       {{"f", R"({"o": {"a": {"b": [1, {"c": null}]}}, "l": []})"}}},
      {CallOf(Value("o", "{\n  \"a\": 1\n}")), "", {{"f", R"({"o": {"a": 1}})"}}},
      {CallOf(Value("o", "{'a': True}") + Value("l", "('x', None)")),
       "",
       {{"f", R"({"o": {"a": true}, "l": ["x", null]})"}}},
      {CallOf(Value("o", "not an object") + Value("l", "")),
       "",
       {{"f", R"({"o": "not an object", "l": ""})"}}},
      {CallOf(Value("s", "null") + Value("s?", "null") + Value("i?", "None") + Value("i", "null")),
       "",
       {{"f", R"({"s": "null", "s?": null, "i?": null, "i": null})"}}},
      {CallOf(Value("s?", "nul") + Value("s?", "nulls") + Value("s?", "nu\n") + Value("s?", "x")),
       "",
       {{"f", R"({"s?": "nul", "s?": "nulls", "s?": "nu\n", "s?": "x"})"}}},
      {CallOf(Value("s", "\n\na\n\n")), "", {{"f", R"({"s": "\n\na\n\n"})"}}},
      {CallOf("<parameter=s>x</parameter><parameter=t>\n</parameter>"),
       "",
       {{"f", R"({"s": "x", "t": ""})"}}},
      {CallOf("<parameter=s>\n\n</parameter><parameter=t></parameter>"),
       "",
       {{"f", R"({"s": "", "t": ""})"}}},
      {CallOf("<parameter=i>7</parameter><parameter=i>\n8</parameter>"),
       "",
       {{"f", R"({"i": 7, "i": 8})"}}},
      {CallOf(Value("s", "a\"b\\c\td\x01")), "", {{"f", R"({"s": "a\"b\\c\td\u0001"})"}}},
      {CallOf(Value("s", "caf\xC3\xA9 \xF0\x9F\x98\x81 我")),
       "",
       {{"f", "{\"s\": \"caf\xC3\xA9 \xF0\x9F\x98\x81 我\"}"}}},
      {CallOf(Value("s", "<b>x</b> a < b <parameter> <function> </think>")),
       "",
       {{"f", R"({"s": "<b>x</b> a < b <parameter> <function> </think>"})"}}},
      {CallOf(Value("s", "<tool_call>\n<function=g>\n")),
       "",
       {{"f", R"({"s": "<tool_call>\n<function=g>\n"})"}}},
      {CallOf(Value("s", "say </function> or </tool_call> to end")),
       "",
       {{"f", R"({"s": "say </function> or </tool_call> to end"})"}}},
      {CallOf(Value("s", "</function>\n</tool_call>") + Value("i", "1")),
       "",
       {{"f", R"({"s": "</function>\n</tool_call>", "i": 1})"}}},
      {CallOf(Value("i", "</function>") + Value("s?", "</tool_call>")),
       "",
       {{"f", R"({"i": "</function>", "s?": "</tool_call>"})"}}},
      {CallOf(Value("s", "x")) + "\n" + CallOf(Value("s", "y")),
       "",
       {{"f", R"({"s": "x"})"}, {"f", R"({"s": "y"})"}}},
      {"a" + CallOf(Value("s", "x")) + "b" + CallOf(Value("s", "y")) + "c",
       "a",
       {{"f", R"({"s": "x"})"}, {"f", R"({"s": "y"})"}}},
      {CallOf(Value("unknown", "5")), "", {{"f", R"({"unknown": "5"})"}}},
      {"<tool_call>\n<function=g>\n" + Value("i", "5") + "</function>\n</tool_call>",
       "",
       {{"g", R"({"i": "5"})"}}},
      {CallOf(Value("a\"b", "x")), "", {{"f", R"({"a\"b": "x"})"}}},
      {CallOf(Value("s", "x")) + "\nDone.", "", {{"f", R"({"s": "x"})"}}},
  };
  return samples;
}

// Each breaks the form in one way.
const std::vector<Sample>& Broken() {
  static const std::string& name = *new std::string(kMaxToolNameBytes, 'n');
  static const auto& samples = *new std::vector<Sample>{
      {"x <function=f>\n" + Value("i", "1") + "</function> y", "x ", {{"f", R"({"i": 1})"}}},
      {"<function=f>" + Value("i", "1") + "</function><function=f></function>",
       "",
       {{"f", R"({"i": 1})"}, {"f", "{}"}}},
      {"<tool_call><function=f>" + Value("i", "1") + "</function>\n<tool_call><function=f>",
       "",
       {{"f", R"({"i": 1})"}, {"f", "{}"}}},
      {"<tool_call><function=f>" + Value("i", "1") + "</tool_call>\n<tool_call><function=f>",
       "",
       {{"f", R"({"i": 1})"}, {"f", "{}"}}},
      {"<tool_call><function=f>" + Value("i", "1") + "<tool_call><function=f>",
       "",
       {{"f", R"({"i": 1})"}, {"f", "{}"}}},
      {"<function=f>" + Value("i", "1") + "<function=f>" + Value("s", "2"),
       "",
       {{"f", R"({"i": 1})"}, {"f", R"({"s": "2"})"}}},
      {"<function=f>\n<parameter=i>\n1\n<parameter=s>\n2\n</function>",
       "",
       {{"f", R"({"i": 1, "s": "2"})"}}},
      {"<function=f>\n<parameter=i>\n1\n</function>\n</tool_call>", "", {{"f", R"({"i": 1})"}}},
      {"<function=f>\n<parameter=i>\n1\n</tool_call>\n", "", {{"f", R"({"i": 1})"}}},
      {"<function=f>\n<parameter=s>\n1</function>\n</tool_call>\n" + CallOf(Value("i", "2")),
       "",
       {{"f", R"({"s": "1"})"}, {"f", R"({"i": 2})"}}},
      {"<function=f>\n<parameter=s>\n1</function>\n<parameter=t>x</parameter>",
       "",
       {{"f", R"({"s": "1"})"}}},
      {"<function=f>\n<parameter=i>\n1", "", {{"f", R"({"i": 1})"}}},
      {"<function=f>\n<parameter=s>\n1\n", "", {{"f", R"({"s": "1"})"}}},
      {"<function=f>\n<parameter=s>\n1\n</param", "", {{"f", R"({"s": "1\n</param"})"}}},
      {"<function=f>\n<parameter=s>\n1\n<parameter=t", "", {{"f", R"({"s": "1\n<parameter=t"})"}}},
      {"<function=f>\n<parameter=s>", "", {{"f", R"({"s": ""})"}}},
      {"<function=f>\n<parameter=s", "", {{"f", "{}"}}},
      {"<function=f>\n<param", "", {{"f", "{}"}}},
      {"<function=f>", "", {{"f", "{}"}}},
      {"a<function=f", "a<function=f", {}},
      {"a<tool_call>\n<func", "a<tool_call>\n<func", {}},
      {"a<tool_call>", "a<tool_call>", {}},
      {"a<tool_ca", "a<tool_ca", {}},
      {"a<function=></function>b", "a<function=></function>b", {}},
      {"a<function=f</function>b", "a<function=f</function>b", {}},
      {"a<function=f\n>b", "a<function=f\n>b", {}},
      {"<function= f ><parameter= s >x</parameter>", "", {{"f", R"({"s": "x"})"}}},
      {"a<tool_call>{\"name\": \"f\"}</tool_call>b",
       "a<tool_call>{\"name\": \"f\"}</tool_call>b",
       {}},
      {"<tool_call>a<tool_call>b<function=f>", "<tool_call>a", {{"f", "{}"}}},
      {"<tool_call>a</tool_call>b" + CallOf(""), "<tool_call>a</tool_call>b", {{"f", "{}"}}},
      {"x<tool_call>junk<function=f>", "x", {{"f", "{}"}}},
      {"x<tool_call>\n<function=\n<function=f>", "x<tool_call>\n<function=\n", {{"f", "{}"}}},
      {"</tool_call></function></parameter><parameter=s>x",
       "</tool_call></function></parameter><parameter=s>x",
       {}},
      {"<function=f>junk" + Value("i", "1") + "junk <parameter=><parameter=\n" + Value("s", "2"),
       "",
       {{"f", R"({"i": 1, "s": "2"})"}}},
      {"<function=f>" + Value("s", "a <parameter=> b <parameter=\n> c"),
       "",
       {{"f", R"({"s": "a <parameter=> b <parameter=\n> c"})"}}},
      {"<function=f>" + Value("s", "a <parameter=t> b"), "", {{"f", R"({"s": "a ", "t": " b"})"}}},
      {"<function=" + name + "><parameter=" + name + ">x",
       "",
       {{name, "{\"" + name + "\": \"x\"}"}}},
      {"<function=" + name + "n>", "<function=" + name + "n>", {}},
      {"<function=f><parameter=" + name + "n>x</parameter>", "", {{"f", "{}"}}},
      {CallOf("") + "<tool_call>cut", "", {{"f", "{}"}}},
      {CallOf("") + "<function=", "", {{"f", "{}"}}},
  };
  return samples;
}

void ExpectSample(const Sample& sample, const Parsed& parsed) {
  EXPECT_EQ(parsed.content, sample.content) << sample.text;
  ASSERT_EQ(parsed.calls.size(), sample.calls.size()) << sample.text;
  for (size_t i = 0; i < sample.calls.size(); ++i) {
    EXPECT_EQ(parsed.calls[i].name, sample.calls[i].first);
    EXPECT_EQ(parsed.calls[i].arguments, sample.calls[i].second) << sample.text;
    EXPECT_TRUE(parsed.calls[i].ended);
    EXPECT_TRUE(nlohmann::json::accept(parsed.calls[i].arguments)) << parsed.calls[i].arguments;
  }
}

TEST(ToolCallParserTest, ParsesWellFormedCallsWhateverThePieces) {
  for (const Sample& sample : WellFormed()) {
    ForEachSplit(sample.text, [&sample](const Pieces& pieces) {
      ExpectSample(sample, Parse(Schema(), pieces));
    });
  }
}

TEST(ToolCallParserTest, ParsesBrokenCallsWhateverThePieces) {
  for (const Sample& sample : Broken()) {
    ForEachSplit(sample.text, [&sample](const Pieces& pieces) {
      ExpectSample(sample, Parse(Schema(), pieces));
    });
  }
}

TEST(ToolCallParserTest, TextStreamsAndOtherValuesComeWhole) {
  ToolCallParser parser(Schema());
  const auto told = [&parser](std::string_view piece) {
    std::string text;
    for (const ToolCallEvent& event : parser.Add(piece)) text += "[" + event.text + "]";
    return text;
  };
  EXPECT_EQ(told("Hi <"), "[Hi ]");
  EXPECT_EQ(told("tool_call>\n"), "");
  EXPECT_EQ(told("<function=f"), "");
  EXPECT_EQ(told(">\n<parameter=s"), "[f][{]");
  EXPECT_EQ(told(">"), "[\"s\": ]");
  EXPECT_EQ(told("\nab"), "[\"ab]");
  EXPECT_EQ(told("c\n"), "[c]");
  EXPECT_EQ(told("d</"), "[\\nd]");
  EXPECT_EQ(told("x"), "[</x]");
  EXPECT_EQ(told("\n</parameter>"), "[\"]");
  EXPECT_EQ(told("<parameter=i>\n1"), "[, \"i\": ]");
  EXPECT_EQ(told("2\n</parameter>\n<parameter=s?>nu"), "[12, \"s?\": ]");
  EXPECT_EQ(told("m"), "[\"num]");
  EXPECT_EQ(told("</parameter></function>"), "[\"}][]");
  EXPECT_EQ(told("</tool_call> bye"), "");
  EXPECT_TRUE(parser.Finish().empty());
}

// What waits is bounded, and the bound is in bytes of the text, so it does not depend on pieces.
TEST(ToolCallParserTest, WhatWaitsIsBounded) {
  const std::string most(kMaxHeldToolBytes - kLongestTag, 'x');
  const std::string more(kMaxHeldToolBytes, 'x');
  const std::string value = "<function=f><parameter=s>a</function>";
  const std::vector<Sample> samples = {
      {"<tool_call>" + most + "<function=f>", "", {{"f", "{}"}}},
      {"<tool_call>" + more + "<function=f>", "<tool_call>" + more, {{"f", "{}"}}},
      {value + most + "</parameter>", "", {{"f", "{\"s\": \"a</function>" + most + "\"}"}}},
      {value + more + "</parameter>", "", {{"f", R"({"s": "a"})"}}},
  };
  for (const Sample& sample : samples) {
    for (const size_t size : {size_t{1}, size_t{1000}, sample.text.size()}) {
      Pieces pieces;
      for (size_t at = 0; at < sample.text.size(); at += size) {
        pieces.push_back(std::string_view(sample.text).substr(at, size));
      }
      ExpectSample(sample, Parse(Schema(), pieces));
    }
  }
}

TEST(ToolCallParserTest, AValueTooLongToConvertIsText) {
  const std::string digits(kMaxTypedValueBytes + 1, '1');
  const std::string list = "[" + std::string(kMaxTypedValueBytes, ' ') + "]";
  for (const std::string& value : {digits, list}) {
    const std::string text = "<function=f><parameter=l>" + value + "</parameter></function>";
    const std::string_view view = text;
    const Sample sample = {text, "", {{"f", "{\"l\": \"" + value + "\"}"}}};
    ExpectSample(sample, Parse(Schema(), {text}));
    ExpectSample(sample, Parse(Schema(), {view.substr(0, 50), view.substr(50)}));
  }
}

// What is quadratic in one of these takes far longer; the limit is for sanitizers on slow machines.
TEST(ToolCallParserTest, LongTextOfAnythingIsParsedInSeconds) {
  constexpr size_t kBytes = 250'000;
  constexpr std::chrono::seconds kLimit(20);
  for (const std::string_view start : {"", "<tool_call>", "<function=f>",
                                       "<function=f><parameter=s>", "<function=f><parameter=l>"}) {
    for (const std::string_view unit :
         {"x", "<", "\n", "<tool_call>", "<function=", "<function=f>",
          "<parameter=", "<parameter=s>", "<parameter=\n", "</function>", "</tool_call>",
          "</parameter>", "<function=f><parameter=l>[", "</function>x", "[", "'", "1, "}) {
      std::string text(start);
      while (text.size() < kBytes) text += unit;
      for (const size_t size : {size_t{5}, text.size()}) {
        const auto begin = std::chrono::steady_clock::now();
        ToolCallParser parser(Schema());
        for (size_t at = 0; at < text.size(); at += size) {
          parser.Add(std::string_view(text).substr(at, size));
        }
        parser.Finish();
        EXPECT_LT(std::chrono::steady_clock::now() - begin, kLimit) << start << " " << unit;
      }
    }
  }
}

}  // namespace
}  // namespace deltaserve
