// What a bad template or bad variables are told: the kind, the exact place and the words.

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "router/text/template/template.h"

namespace deltaserve::jinja {
namespace {

using Json = nlohmann::ordered_json;
using Code = absl::StatusCode;

struct Case {
  std::string source;
  Code code;
  std::string message;
};

Json Variables() {
  return Json::parse(R"({
      "messages": [{"role": "user", "content": "hi"}, {"role": "tool"}],
      "s": "text", "l": [1, 2], "d": {"a": 1}, "i": 7, "no": null, "big": 9223372036854775807})");
}

absl::Status RunTemplate(const std::string& source, Json variables = Variables()) {
  const auto parsed = Template::Parse(source, "chat.jinja");
  if (!parsed.ok()) return parsed.status();
  Template::Context context;
  context.variables = std::move(variables);
  return (*parsed)->Render(context, Limits()).status();
}

void ExpectErrors(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    const absl::Status status = RunTemplate(c.source);
    EXPECT_EQ(status.code(), c.code) << c.source << "\n" << status;
    EXPECT_EQ(std::string(status.message()), c.message) << c.source;
  }
}

TEST(TemplateErrorsTest, WhatIsNotClosed) {
  ExpectErrors({
      {"{% if i %}a", Code::kInvalidArgument,
       "chat.jinja:1:12: the template ends where 'elif' or 'else' or 'endif' is owed"},
      {"a\n{% for x in l %}\n  b", Code::kInvalidArgument,
       "chat.jinja:3:4: the template ends where 'endfor' or 'else' is owed"},
      {"{% macro f() %}", Code::kInvalidArgument,
       "chat.jinja:1:16: the template ends where 'endmacro' is owed"},
      {"{% set x %}", Code::kInvalidArgument,
       "chat.jinja:1:12: the template ends where 'endset' is owed"},
      {"{% if i %}{% endfor %}", Code::kInvalidArgument, "chat.jinja:1:14: unknown tag 'endfor'"},
      {"{% endif %}", Code::kInvalidArgument, "chat.jinja:1:4: unknown tag 'endif'"},
      {"{# note", Code::kInvalidArgument,
       "chat.jinja:1:1: the comment is not closed; end it with '#}'"},
      {"a\n  {% raw %} b", Code::kInvalidArgument,
       "chat.jinja:2:3: 'raw' is not closed; end it with '{% endraw %}'"},
      {"{{ 'text }}", Code::kInvalidArgument, "chat.jinja:1:4: the string is not closed"},
      {"{{ (1 }}", Code::kInvalidArgument, "chat.jinja:1:7: unexpected '}', expected ')'"},
      {"{{ [1) }}", Code::kInvalidArgument, "chat.jinja:1:6: unexpected ')', expected ']'"},
      {"{{ 1", Code::kInvalidArgument,
       "chat.jinja:1:5: expected the end of the print tag, found the end of the template"},
      {"{{", Code::kInvalidArgument,
       "chat.jinja:1:3: expected an expression, found the end of the template"},
      {"{% if", Code::kInvalidArgument,
       "chat.jinja:1:6: expected an expression, found the end of the template"},
      {"{{ 1 %}", Code::kInvalidArgument, "chat.jinja:1:7: unexpected '}'"},
  });
}

TEST(TemplateErrorsTest, WhatTheGrammarHasNot) {
  ExpectErrors({
      {"{{ }}", Code::kInvalidArgument,
       "chat.jinja:1:4: expected an expression, found the end of the print tag"},
      {"{{ 1 2 }}", Code::kInvalidArgument,
       "chat.jinja:1:6: expected the end of the print tag, found '2'"},
      {"{{ 1 + }}", Code::kInvalidArgument,
       "chat.jinja:1:8: expected an expression, found the end of the print tag"},
      {"\u00e9\u00e9 {{ @ }}", Code::kInvalidArgument, "chat.jinja:1:7: unexpected character '@'"},
      {"{{ s.1x }}", Code::kInvalidArgument,
       "chat.jinja:1:7: expected the end of the print tag, found 'x'"},
      {"{{ l[1:2, 3] }}", Code::kInvalidArgument,
       "chat.jinja:1:5: a slice must be alone in its brackets"},
      {"{{ f(a=1, 2) }}", Code::kInvalidArgument,
       "chat.jinja:1:5: invalid syntax for function call expression"},
      {"{{ f(a=1, a=2) }}", Code::kInvalidArgument,
       "chat.jinja:1:11: the argument 'a' is there twice"},
      {"{{ '\\x4' }}", Code::kInvalidArgument,
       "chat.jinja:1:4: the escape '\\x4' needs 2 hex digits"},
      {"{{ s is string is string }}", Code::kInvalidArgument,
       "chat.jinja:1:16: you cannot chain multiple tests with 'is'"},
      {"{% nope %}", Code::kInvalidArgument, "chat.jinja:1:4: unknown tag 'nope'"},
      {"{% for in l %}{% endfor %}", Code::kInvalidArgument,
       "chat.jinja:1:11: expected 'in', found 'l'"},
      {"{% for x l %}{% endfor %}", Code::kInvalidArgument,
       "chat.jinja:1:10: expected 'in', found 'l'"},
      {"{% if %}{% endif %}", Code::kInvalidArgument,
       "chat.jinja:1:7: expected an expression, found the end of the tag"},
      {"{% set 1 = 2 %}", Code::kInvalidArgument, "chat.jinja:1:8: can't assign to 'const'"},
      {"{% set true = 2 %}", Code::kInvalidArgument, "chat.jinja:1:8: can't assign to 'const'"},
      {"{% set d.a.b = 2 %}", Code::kInvalidArgument,
       "chat.jinja:1:11: expected the end of the tag, found '.'"},
      {"{% macro f(a, a) %}{% endmacro %}", Code::kInvalidArgument,
       "chat.jinja:1:15: the parameter 'a' is there twice"},
      {"{% macro f(a=1, b) %}{% endmacro %}", Code::kInvalidArgument,
       "chat.jinja:1:17: a parameter without default follows one with a default"},
      {"\n\n {% break %}", Code::kInvalidArgument, "chat.jinja:3:5: 'break' outside loop"},
      {"{% for x in l %}{% set loop = 1 %}{% endfor %}", Code::kInvalidArgument,
       "chat.jinja:1:24: can't assign to special loop variable in for-loop"},
      {"{{ 170141183460469231731687303715884105728 }}", Code::kInvalidArgument,
       "chat.jinja:1:4: 170141183460469231731687303715884105728 is beyond 127 bits; use a smaller "
       "number"},
  });
}

TEST(TemplateErrorsTest, NamesThatAreUnknown) {
  ExpectErrors({
      {"a {{ s|nope }}", Code::kInvalidArgument, "chat.jinja:1:8: no filter named 'nope'"},
      {"{{ s is nope }}", Code::kInvalidArgument, "chat.jinja:1:6: no test named 'nope'"},
      {"{% if i %}\n{{ s|from_json }}{% endif %}", Code::kInvalidArgument,
       "chat.jinja:2:6: No filter named 'from_json' found."},
      {"{% if i is nope %}{% endif %}", Code::kInvalidArgument,
       "chat.jinja:1:9: No test named 'nope' found."},
      {"{{ nope() }}", Code::kInvalidArgument, "chat.jinja:1:8: 'nope' is undefined"},
      {"{{ s.nope() }}", Code::kInvalidArgument,
       "chat.jinja:1:10: 'str object' has no attribute 'nope'"},
      {"{{ nope.x }}", Code::kInvalidArgument, "chat.jinja:1:8: 'nope' is undefined"},
      {"{{ d.x.y }}", Code::kInvalidArgument, "chat.jinja:1:7: 'dict object' has no attribute 'x'"},
      {"{{ messages[1].content.strip() }}", Code::kInvalidArgument,
       "chat.jinja:1:23: 'dict object' has no attribute 'content'"},
      {"{{ messages[5].role }}", Code::kInvalidArgument,
       "chat.jinja:1:15: list object has no element 5"},
      {"{{ nope + 1 }}", Code::kInvalidArgument, "chat.jinja:1:9: 'nope' is undefined"},
      {"{{ nope|upper ~ d['x'] < 1 }}", Code::kInvalidArgument,
       "chat.jinja:1:24: '<' not supported between instances of 'str' and 'int'"},
      {"{{ l|map('nope')|list }}", Code::kInvalidArgument,
       "chat.jinja:1:18: No filter named 'nope'."},
      {"{{ l|select('nope')|list }}", Code::kInvalidArgument,
       "chat.jinja:1:21: No test named 'nope'."},
      {"{% set l.x = 1 %}", Code::kInvalidArgument,
       "chat.jinja:1:8: cannot assign attribute on non-namespace object"},
  });
}

TEST(TemplateErrorsTest, ValuesOfTheWrongType) {
  ExpectErrors({
      {"{{ s + 1 }}", Code::kInvalidArgument,
       "chat.jinja:1:6: unsupported operand type(s) for +: 'str' and 'int'"},
      {"{{ 'a' + no }}", Code::kInvalidArgument,
       "chat.jinja:1:8: unsupported operand type(s) for +: 'str' and 'NoneType'"},
      {"{{ -s }}", Code::kInvalidArgument, "chat.jinja:1:4: bad operand type for unary -: 'str'"},
      {"{{ 1 < s }}", Code::kInvalidArgument,
       "chat.jinja:1:6: '<' not supported between instances of 'int' and 'str'"},
      {"{{ 1 in i }}", Code::kInvalidArgument,
       "chat.jinja:1:6: argument of type 'int' is not iterable"},
      {"{{ 1 in s }}", Code::kInvalidArgument,
       "chat.jinja:1:6: 'in <string>' requires string as left operand, not int"},
      {"{{ 1 // 0 }}", Code::kInvalidArgument, "chat.jinja:1:6: division by zero"},
      {"{% for x in i %}{% endfor %}", Code::kInvalidArgument,
       "chat.jinja:1:4: 'int' object is not iterable"},
      {"{% for a, b in l %}{% endfor %}", Code::kInvalidArgument,
       "chat.jinja:1:8: cannot unpack non-iterable int object"},
      {"{{ i() }}", Code::kInvalidArgument, "chat.jinja:1:5: 'int' object is not callable"},
      {"{{ i|length }}", Code::kInvalidArgument,
       "chat.jinja:1:6: object of type 'int' has no len()"},
      {"{{ s.split(1) }}", Code::kInvalidArgument,
       "chat.jinja:1:11: split(): the argument must be str, not int"},
      {"{{ s.split('') }}", Code::kInvalidArgument, "chat.jinja:1:11: empty separator"},
      {"{{ s.strip(nope=1) }}", Code::kInvalidArgument,
       "chat.jinja:1:11: strip() got an unexpected keyword argument 'nope'"},
      {"{{ l|join(d, d, d) }}", Code::kInvalidArgument,
       "chat.jinja:1:6: join() takes at most 2 arguments (3 given)"},
      {"{{ {l: 1} }}", Code::kInvalidArgument, "chat.jinja:1:4: unhashable type: 'list'"},
      {"{{ l[::0] }}", Code::kInvalidArgument, "chat.jinja:1:6: slice step cannot be zero"},
      {"{{ s|indent('a', 1, 2, 3) }}", Code::kInvalidArgument,
       "chat.jinja:1:6: indent() takes at most 3 arguments (4 given)"},
      {"{{ namespace|tojson }}", Code::kInvalidArgument,
       "chat.jinja:1:14: Object of type function is not JSON serializable"},
      {"{{ '%d' % s }}", Code::kInvalidArgument,
       "chat.jinja:1:9: %d format: a real number is required, not str"},
      {"{{ '%s %s' % s }}", Code::kInvalidArgument,
       "chat.jinja:1:12: not enough arguments for format string"},
      {"{{ '{x}'.format() }}", Code::kInvalidArgument,
       "chat.jinja:1:16: the format's field 'x' is not given"},
      {"{{ l.append(3) }}", Code::kInvalidArgument,
       "chat.jinja:1:12: access to attribute 'append' of 'list' object is unsafe."},
      {"{{ s.__class__.x }}", Code::kInvalidArgument,
       "chat.jinja:1:15: access to attribute '__class__' of 'str' object is unsafe."},
      {"{% set n = namespace() %}{% set n._x = 1 %}", Code::kInvalidArgument,
       "chat.jinja:1:33: a namespace cannot hold the name '_x'; use one without '_' in front"},
      {"{% macro f(a) %}{% endmacro %}\n{{ f(1, 2) }}", Code::kInvalidArgument,
       "chat.jinja:2:5: macro 'f' takes not more than 1 argument(s)"},
      {"{% macro f(a) %}{% endmacro %}\n{{ f(b=1) }}", Code::kInvalidArgument,
       "chat.jinja:2:5: macro 'f' takes no keyword argument 'b'"},
      {"{{ range(1000000) }}", Code::kInvalidArgument,
       "chat.jinja:1:9: Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000)."},
      {"{{ l|map('upper') }}", Code::kInvalidArgument,
       "chat.jinja:1:1: a generator cannot be printed; use the filter list or join"},
  });
}

// The innermost place: the expression in the macro, not the call.
TEST(TemplateErrorsTest, ThePlaceIsTheInnermost) {
  ExpectErrors({
      {"{%- macro f(x) %}\n  {{ x.a.b }}\n{%- endmacro %}\n{{ f(d) }}{{ f(i) }}",
       Code::kInvalidArgument, "chat.jinja:2:9: 'int object' has no attribute 'a'"},
      {"{% for m in messages %}\n{{ m.role + m.content }}{% endfor %}", Code::kInvalidArgument,
       "chat.jinja:2:11: 'dict object' has no attribute 'content'"},
      {"{% set x %}\n\n{{ 'a' - 1 }}{% endset %}", Code::kInvalidArgument,
       "chat.jinja:3:8: unsupported operand type(s) for -: 'str' and 'int'"},
      {"{% filter upper %}\t{{ s % 1 }}{% endfilter %}", Code::kInvalidArgument,
       "chat.jinja:1:25: not all arguments converted during string formatting"},
  });
}

TEST(TemplateErrorsTest, WhatIsLeftOutIsNamed) {
  ExpectErrors({
      {"{% include 'a' %}", Code::kUnimplemented,
       "chat.jinja:1:4: 'include' is not supported in chat templates"},
      {"{% import 'a' as b %}", Code::kUnimplemented,
       "chat.jinja:1:4: 'import' is not supported in chat templates"},
      {"{% from 'a' import b %}", Code::kUnimplemented,
       "chat.jinja:1:4: 'from' is not supported in chat templates"},
      {"{% extends 'a' %}", Code::kUnimplemented,
       "chat.jinja:1:4: 'extends' is not supported in chat templates"},
      {"{% block a %}{% endblock %}", Code::kUnimplemented,
       "chat.jinja:1:4: 'block' is not supported in chat templates"},
      {"{% call f() %}{% endcall %}", Code::kUnimplemented,
       "chat.jinja:1:4: 'call' is not supported in chat templates"},
      {"{% autoescape true %}{% endautoescape %}", Code::kUnimplemented,
       "chat.jinja:1:4: 'autoescape' is not supported in chat templates"},
      {"{% for x in l recursive %}{% endfor %}", Code::kUnimplemented,
       "chat.jinja:1:15: a recursive loop is not supported in chat templates"},
      {"{{ l|random }}", Code::kUnimplemented,
       "chat.jinja:1:6: the filter 'random' is not supported in chat templates"},
      {"{% if i %}{{ d|xmlattr }}{% endif %}", Code::kUnimplemented,
       "chat.jinja:1:16: the filter 'xmlattr' is not supported in chat templates"},
      {"{{ s.encode() }}", Code::kUnimplemented,
       "chat.jinja:1:12: the method str.encode is not supported in chat templates"},
      {"{{ cycler(1) }}", Code::kUnimplemented,
       "chat.jinja:1:10: 'cycler' is not supported in chat templates"},
      {"{{ '\\N{DASH}' }}", Code::kUnimplemented,
       "chat.jinja:1:4: the escape '\\N' is not supported; use \\uXXXX"},
  });
}

TEST(TemplateErrorsTest, IntegersThatAreTooLarge) {
  ExpectErrors({
      {"{{ big * big * big }}", Code::kOutOfRange,
       "chat.jinja:1:14: an integer beyond 127 bits is not supported; use smaller numbers"},
      {"{{ 2 ** 127 }}", Code::kOutOfRange,
       "chat.jinja:1:6: an integer beyond 127 bits is not supported; use smaller numbers"},
      {"{{ (-2) ** 127 }}", Code::kOutOfRange,
       "chat.jinja:1:9: an integer beyond 127 bits is not supported; use smaller numbers"},
      {"{{ -170141183460469231731687303715884105727 - 1 }}", Code::kOutOfRange,
       "chat.jinja:1:45: an integer beyond 127 bits is not supported; use smaller numbers"},
      {"{{ 1e40|int }}", Code::kOutOfRange,
       "chat.jinja:1:9: an integer beyond 127 bits is not supported; use smaller numbers"},
      {"{{ ('9' * 60)|int }}", Code::kOutOfRange,
       "chat.jinja:1:15: an integer beyond 127 bits is not supported; use smaller numbers"},
      {"{{ range(0, 9, 2 ** 40)[::2 ** 40] }}", Code::kOutOfRange,
       "chat.jinja:1:25: a range of integers beyond 63 bits is not supported"},
      {"{{ range(2 ** 64) }}", Code::kOutOfRange,
       "chat.jinja:1:9: range() of integers beyond 63 bits is not supported"},
  });
}

TEST(TemplateErrorsTest, WhatTheTemplateRaises) {
  const absl::Status status = RunTemplate(
      "{% for m in messages %}{% if m.role == 'tool' %}\n{{ raise_exception('no ' ~ m.role) }}"
      "{% endif %}{% endfor %}");
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_EQ(std::string(status.message()), "chat.jinja:2:19: no tool");
  EXPECT_EQ(RaisedMessage(status), "no tool");
  EXPECT_EQ(RaisedMessage(RunTemplate("{{ nope.x }}")), std::nullopt);
}

TEST(TemplateErrorsTest, VariablesThatAreNoVariables) {
  for (const auto& [variables, message] : std::vector<std::pair<Json, std::string>>{
           {Json::array(), "chat.jinja: the variables are not an object"},
           {nullptr, "chat.jinja: the variables are not an object"},
           {{{"a", "\xff"}}, "chat.jinja: a string of the variables is not UTF-8 at byte 0"},
           {{{"a\xc3", 1}}, "chat.jinja: a string of the variables is not UTF-8 at byte 1"},
           {{{"a", Json::binary({1})}},
            "chat.jinja: the variables hold a binary, which JSON has not"},
       }) {
    const absl::Status status = RunTemplate("a", variables);
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << message;
    EXPECT_EQ(std::string(status.message()), message);
  }
}

TEST(TemplateErrorsTest, ASourceThatIsNoText) {
  const absl::Status status = RunTemplate("abc\xff");
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_EQ(std::string(status.message()), "chat.jinja: byte 3 of the template is not UTF-8");
}

}  // namespace
}  // namespace deltaserve::jinja
