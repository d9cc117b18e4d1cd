// Hostile templates and messages: each ends with ResourceExhausted, soon and without the memory
// that it asks for.

#include <sys/resource.h>

#include <ctime>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "router/text/template/template.h"

namespace deltaserve::jinja {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

constexpr double kSoon = 10;  // seconds of the processor, under sanitizers too
constexpr int64_t kMostKilobytes = int64_t{4} << 20;  // sanitizers keep what is freed

std::string Repeat(std::string_view text, int count) {
  std::string result;
  for (int i = 0; i < count; ++i) result += text;
  return result;
}

// Of the processor, so that a busy machine does not count.
double Seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

// Lists inside each other, not built by recursion.
Json Nested(int depth) { return Json::parse(absl::StrCat(Repeat("[", depth), Repeat("]", depth))); }

// A part of what a router allows, for tests that use all of it many times.
Limits Small() {
  Limits limits;
  limits.max_steps /= 400;
  limits.max_memory_bytes /= 16;
  return limits;
}

absl::Status RunTemplate(const std::string& source,
                         Json variables = Json::object(),
                         Limits limits = {}) {
  const auto parsed = Template::Parse(source, "t");
  if (!parsed.ok()) return parsed.status();
  Template::Context context;
  context.variables = std::move(variables);
  return (*parsed)->Render(context, limits).status();
}

// What a test took at its worst shows in the process, which runs no other.
class TemplateLimitsTest : public ::testing::Test {
 protected:
  void TearDown() override {
    rusage usage{};
    ASSERT_EQ(getrusage(RUSAGE_SELF, &usage), 0);
    EXPECT_LT(usage.ru_maxrss, kMostKilobytes);
  }
};

struct Case {
  std::string name;
  std::string source;
  std::string message;  // a part of it
};

void ExpectExhausted(const std::vector<Case>& cases, const Json& variables, const Limits& limits) {
  for (const Case& c : cases) {
    const double begin = Seconds();
    const absl::Status status = RunTemplate(c.source, variables, limits);
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << c.name << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message)) << c.name;
    EXPECT_LT(Seconds() - begin, kSoon) << c.name;
  }
}

TEST_F(TemplateLimitsTest, LoopsAndRecursionEndAtTheSteps) {
  ExpectExhausted(
      {
          {"loops inside each other",
           Repeat("{% for x in range(100000) %}", 20) + Repeat("{% endfor %}", 20), "max_steps"},
          {"a loop over a loop's generators",
           "{% for x in range(100000)|map('string') if x %}{% for y in range(100000)|select('odd') "
           "%}"
           "{% endfor %}{% endfor %}",
           "max_steps"},
          {"macros that branch",
           "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
           "{{ f(60) }}",
           "max_steps"},
          {"equality of a list that shares its parts",
           "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}"
           "{% set ns.a = [ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b] %}{% endfor %}"
           "{{ ns.a == ns.b }}",
           "max_steps"},
          {"a key that shares its parts",
           "{% set ns = namespace(a=(1,)) %}{% for i in range(60) %}"
           "{% set ns.a = (ns.a, ns.a) %}{% endfor %}{{ {ns.a: 1} }}",
           "max_steps"},
          {"order of a list that shares its parts",
           "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}"
           "{% set ns.a = [ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b] %}{% endfor %}"
           "{{ ns.a < ns.b }}",
           "max_steps"},
          {"a list built one by one",
           "{% set ns = namespace(a=[]) %}{% for i in range(100000) %}"
           "{% set ns.a = ns.a + [i] %}{% endfor %}",
           "max_"},
          {"searches in a list",
           "{% for i in range(100000) %}{{ i in range(100000)|list }}{% endfor %}", "max_steps"},
      },
      Json::object(), Small());
}

// Each of these takes long on long text, so few repetitions must be all the steps.
TEST_F(TemplateLimitsTest, LongTextIsWorkEachTime) {
  const Json variables = {
      {"a", std::string(1'000'000, 'a')}, {"b", std::string(500'000, 'a') + "b"},
      {"e", Repeat("\u00e9", 500'000)},   {"n", std::string(200'000, '\n')},
      {"k", std::string(1'000'000, 'k')}, {"d", {{std::string(1'000'000, 'k'), 1}}}};
  std::vector<Case> cases;
  for (const char* expression : {"a.strip(b)",
                                 "a.rsplit(b)",
                                 "a.rfind(b)",
                                 "a.rpartition(b)",
                                 "a.find(b)",
                                 "a.count('a')",
                                 "a.replace('ab', 'x')",
                                 "a.split('b')|length",
                                 "a|replace('ab', 'x')|length",
                                 "b in a",
                                 "e.startswith('x', 250000)",
                                 "e.find('x', 250000)",
                                 "e[250000]",
                                 "e[::2]|length",
                                 "a.removeprefix(a)",
                                 "a.removesuffix(a)",
                                 "a.isalpha()",
                                 "a.isidentifier()",
                                 "a.istitle()",
                                 "a is lower",
                                 "a|upper|length",
                                 "a|title|length",
                                 "a|wordcount",
                                 "a|int",
                                 "a|float",
                                 "a|trim('b')|length",
                                 "('%s' ~ a) % 1 == 1",
                                 "('{}' ~ a).format(1) == 1",
                                 "('%(' ~ k ~ ')s') % d",
                                 "n.splitlines()|length",
                                 "n|indent|length",
                                 "n.split()|length",
                                 "a|e|length",
                                 "d == dict(d)",
                                 "dict(d)|length",
                                 "d[a]",
                                 "a == a ~ ''",
                                 "a < a ~ ''",
                                 "[a, a]|unique|list|length",
                                 "[a, b]|min|length",
                                 "a|tojson|length",
                                 "[a]|string|length",
                                 "a.expandtabs()|length",
                                 "a[1:]|length",
                                 "a|truncate(9)",
                                 "a|center(9)|length",
                                 "''|attr(a)",
                                 "d|tojson|length",
                                 "[d]|map(attribute=a)|list|length",
                                 "a.zfill(9)|length",
                                 "a.join('xy')|length",
                                 "a|reverse|length",
                                 "a|list|length",
                                 "strftime_now(a)|length",
                                 "a is filter",
                                 "a.swapcase()|length"}) {
    cases.push_back(
        {expression,
         absl::StrCat("{% for i in range(100000) %}{% set x = ", expression, " %}{% endfor %}"),
         "max_"});
  }
  ExpectExhausted(cases, variables, Small());
}

TEST_F(TemplateLimitsTest, NumbersOfTheTemplateAreNotAllocated) {
  std::vector<Case> cases;
  for (const char* expression : {"'a' * 1000000000",
                                 "'ab' * 10**30",
                                 "10**30 * 'ab'",
                                 "[1] * 1000000000",
                                 "(1, 2) * 10**18",
                                 "'a'.center(10**12)",
                                 "'a'.ljust(10**12)",
                                 "'a'.rjust(10**12)",
                                 "'1'.zfill(10**12)",
                                 "'a'|center(10**12)",
                                 "'\\t'.expandtabs(10**12)",
                                 "'a\\nb'|indent(10**12)",
                                 "[1]|tojson(indent=10**12)",
                                 "[1]|tojson(indent=250000000)|length * 9",
                                 "'%1000000000000d' % 1",
                                 "'%*d' % (10**12, 1)",
                                 "'%1000000000s' % 'a'",
                                 "'{:1000000000}'.format('a')",
                                 "'{:>{w}}'.format('a', w=10**9)",
                                 "[1]|batch(10**12, 0)|list",
                                 "[1]|slice(10**9)|list",
                                 "('a' * 1000000).replace('', 'a' * 1000000)|length",
                                 "('a' * 1000000)|replace('a', 'b' * 250000)",
                                 "('ab' * 1000000)|list|join('x' * 250000)",
                                 "('x' * 1000000).join('ab' * 250000)",
                                 "[['a' * 1000000] * 1000000]|string",
                                 "[['a' * 1000000] * 1000000]|tojson",
                                 "('<' * 60000000)|safe + ('<' * 60000000)",
                                 "('\\n' * 60000000).splitlines()|length",
                                 "('a ' * 60000000).split()|length",
                                 "(',' * 60000000).split(',')|length",
                                 "('.' * 60000000)|sort(attribute=('.' * 60000000))",
                                 "[1]|map(attribute='.' * 60000000)|list",
                                 "('a' * 200000000).isalpha()",
                                 "[range(100000)|list] * 100000 * 100000",
                                 "range(100000)|map('string')|join(',' * 250000)",
                                 "raise_exception(*range(100000))"}) {
    cases.push_back({expression, absl::StrCat("{{ ", expression, " }}"), ""});
  }
  ExpectExhausted(cases, Json::object(), Small());
}

TEST_F(TemplateLimitsTest, OutputEndsAtTheLimit) {
  ExpectExhausted(
      {
          {"printed", "{% for x in range(100000) %}{{ 'a' * 1000 }}{% endfor %}",
           "max_output_bytes"},
          {"text", "{% for x in range(100000) %}" + Repeat("text", 200) + "{% endfor %}",
           "max_output_bytes"},
          {"of a macro",
           "{% macro f() %}{% for x in range(100000) %}{{ 'a' * 1000 }}{% endfor %}{% endmacro %}"
           "{% set x = f() %}",
           "max_output_bytes"},
          {"of a block",
           "{% set b %}{% for x in range(100000) %}{{ 'a' * 1000 }}{% endfor %}{% endset %}",
           "max_output_bytes"},
          {"of ~",
           "{% set ns = namespace(a='a') %}{% for x in range(60) %}"
           "{% set ns.a = ns.a ~ ns.a %}{% endfor %}",
           "max_output_bytes"},
          {"of a tree that shares its parts",
           "{% set ns = namespace(a=['aaaaaaaa']) %}{% for i in range(60) %}"
           "{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a }}",
           "max_"},
      },
      Json::object(), Limits());
}

TEST_F(TemplateLimitsTest, DepthEndsAtTheLimit) {
  ExpectExhausted(
      {
          {"a macro that calls itself", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
           "max_depth"},
          {"two macros that call each other",
           "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
           "max_depth"},
          {"a list in a list",
           "{% set ns = namespace(a=[]) %}{% for i in range(1000) %}{% set ns.a = [ns.a] %}{% "
           "endfor %}",
           "max_value_depth"},
          {"a dict in a dict",
           "{% set ns = namespace(a={}) %}{% for i in range(1000) %}{% set ns.a = {1: ns.a} %}{% "
           "endfor %}",
           "max_value_depth"},
          {"a tuple in a tuple",
           "{% set ns = namespace(a=()) %}{% for i in range(1000) %}{% set ns.a = (ns.a,) %}{% "
           "endfor %}",
           "max_value_depth"},
          {"a view of a dict in a dict",
           "{% set ns = namespace(a={}) %}{% for i in range(1000) %}"
           "{% set ns.a = {1: ns.a}.items() %}{% endfor %}",
           "max_value_depth"},
          {"a method in a list",
           "{% set ns = namespace(a=[]) %}{% for i in range(1000) %}"
           "{% set ns.a = [ns.a].count %}{% endfor %}",
           "max_value_depth"},
          {"a generator of a generator",
           "{% set ns = namespace(a=[1]) %}{% for i in range(1000) %}"
           "{% set ns.a = ns.a|map('string') %}{% endfor %}",
           "max_value_depth"},
          {"a generator as the argument of a generator",
           "{% set ns = namespace(a=[1]) %}{% for i in range(100000) %}"
           "{% set ns.a = [1]|map('default', ns.a) %}{% endfor %}",
           "max_value_depth"},
          {"a generator as a keyword of a generator",
           "{% set ns = namespace(a=[1]) %}{% for i in range(100000) %}"
           "{% set ns.a = [1]|map(attribute='x', default=ns.a) %}{% endfor %}",
           "max_value_depth"},
          {"namespaces printed",
           "{% set ns = namespace(a=1) %}{% for i in range(1000) %}"
           "{% set ns.a = namespace(a=ns.a) %}{% endfor %}{{ ns }}",
           "max_depth"},
      },
      Json::object(), Small());
}

// Chains that hold each other by other ways than the depth of values: taking them down must not
// recurse over all of their links.
TEST_F(TemplateLimitsTest, LongChainsAreTakenDown) {
  for (const std::string source : {
           "{% set ns = namespace() %}{% for i in range(100000) %}{% set ns.a = namespace(a=ns.a) "
           "%}"
           "{% endfor %}",
           "{% set ns = namespace(f=0) %}{% macro make(p) %}{% macro f() %}{{ p }}{% endmacro %}"
           "{% set ns.f = f %}{% endmacro %}{% for i in range(50000) %}{% set x = make(ns.f) %}{% "
           "endfor %}",
           "{% set ns = namespace(l=0) %}{% macro make(p) %}{% for x in [1] if x %}{% set ns.l = "
           "loop %}"
           "{% endfor %}{% endmacro %}{% for i in range(50000) %}{% set x = make(ns.l) %}{% endfor "
           "%}",
           "{% set ns = namespace(l=0) %}{% for i in range(50000) %}{% for x in [1] %}"
           "{% set y = loop.changed(ns.l) %}{% set ns.l = loop %}{% endfor %}{% endfor %}",
           "{% set ns = namespace(n=1) %}{% set ns.me = ns %}{% set ns.both = [ns, ns] %}",
       }) {
    const absl::Status status = RunTemplate(source);
    EXPECT_TRUE(status.ok() || absl::IsResourceExhausted(status)) << source << "\n" << status;
  }
}

TEST_F(TemplateLimitsTest, DeepVariablesAreRefused) {
  EXPECT_TRUE(RunTemplate("{{ x == x }}{{ x }}{{ x|tojson }}", {{"x", Nested(190)}}).ok());
  for (const int depth : {200, 1000, 100000}) {
    const absl::Status status = RunTemplate("{{ x }}", {{"x", Nested(depth)}});
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << depth << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("t: "));
  }
}

TEST_F(TemplateLimitsTest, ManyVariablesAreRefused) {
  const Json many = std::vector<int>(1'000'000, 1);
  Limits limits;
  limits.max_memory_bytes = size_t{16} << 20;
  EXPECT_TRUE(absl::IsResourceExhausted(RunTemplate("{{ x|length }}", {{"x", many}}, limits)));
  limits = Limits();
  limits.max_steps = 1'000'000;
  EXPECT_TRUE(absl::IsResourceExhausted(RunTemplate("{{ x|length }}", {{"x", many}}, limits)));
}

TEST_F(TemplateLimitsTest, SourcesBeyondTheBoundsAreRefused) {
  const std::vector<Case> cases = {
      {"brackets", "{{ " + Repeat("(", 20000) + "1" + Repeat(")", 20000) + " }}", "t:1:"},
      {"brackets without end", "{{ " + Repeat("(", 20000), "t:1:"},
      {"lists", "{{ " + Repeat("[", 20000) + Repeat("]", 20000) + " }}", "t:1:"},
      {"dicts", "{{ " + Repeat("{1:", 20000) + "1" + Repeat("}", 20000) + " }}", "t:1:"},
      {"subscripts", "{{ " + Repeat("a[", 20000) + "1" + Repeat("]", 20000) + " }}", "t:1:"},
      {"calls", "{{ " + Repeat("f(", 20000) + Repeat(")", 20000) + " }}", "t:1:"},
      {"targets", "{% set " + Repeat("(", 20000) + "a" + Repeat(",)", 20000) + " = 1 %}", "t:1:"},
      {"signs", "{{ " + Repeat("-", 20000) + "1 }}", "t:1:"},
      {"not", "{{ " + Repeat("not ", 20000) + "1 }}", "t:1:"},
      {"sums", "{{ 1" + Repeat("+1", 20000) + " }}", "operators deep"},
      {"powers", "{{ 1" + Repeat("**1", 20000) + " }}", "operators deep"},
      {"or", "{{ 1" + Repeat(" or 1", 20000) + " }}", "operators deep"},
      {"filters", "{{ 1" + Repeat("|e", 20000) + " }}", "operators deep"},
      {"filters of a block", "{% filter e" + Repeat("|e", 20000) + " %}{% endfilter %}",
       "operators deep"},
      {"tests", "{{ 1" + Repeat(" is odd()", 20000) + " }}", "operators deep"},
      {"attributes", "{{ a" + Repeat(".a", 20000) + " }}", "operators deep"},
      {"conditions", "{{ 1" + Repeat(" if 1 else 1", 20000) + " }}", "deep"},
      {"conditions without else", "{{ 1" + Repeat(" if 1", 20000) + " }}", "operators deep"},
      {"if", Repeat("{% if 1 %}", 20000), "blocks"},
      {"for", Repeat("{% for x in y %}", 20000), "blocks"},
      {"set", Repeat("{% set x %}", 20000), "blocks"},
      {"macros", Repeat("{% macro x() %}", 20000), "blocks"},
      {"with", Repeat("{% with %}", 20000), "blocks"},
      {"generation", Repeat("{% generation %}", 20000), "blocks"},
      {"arguments", "{{ f(" + Repeat("1,", 20000) + ") }}", "1000 arguments"},
      {"keywords", "{{ f(a=1" + Repeat(",a=1", 100) + ") }}", ""},
      {"parameters", "{% macro f(" + Repeat("a,", 10) + "a) %}{% endmacro %}", ""},
      {"a name", "{{ " + std::string(20000, 'a') + " }}", "a name is longer"},
      {"a source", std::string(2'000'000, 'a'), "bytes"},
  };
  for (const Case& c : cases) {
    const double begin = Seconds();
    const absl::Status status = Template::Parse(c.source, "t").status();
    EXPECT_FALSE(status.ok()) << c.name;
    if (!c.message.empty()) {
      EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << c.name << ": " << status;
    }
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message)) << c.name;
    EXPECT_LT(status.message().size(), 300) << c.name;
    EXPECT_LT(Seconds() - begin, kSoon) << c.name;
  }
}

// As large as a source may be, and as much of one kind as it can hold.
TEST_F(TemplateLimitsTest, LongSourcesAreReadSoon) {
  const std::string deep_for = Repeat("{% for x in y %}", 190);
  for (const std::string& source : std::vector<std::string>{
           std::string(1'000'000, '{'),
           std::string(1'000'000, '\n'),
           Repeat("{{1}}", 200'000),
           Repeat("{# #}", 200'000),
           Repeat("{% raw %}", 100'000),
           Repeat("{% set a=1 %}", 75'000),
           Repeat("  {%- if a -%}  {%- endif -%}  ", 30'000),
           "{% if a %}" + Repeat("{% elif a %}{% set b = 1 %}", 35'000) + "{% endif %}",
           "{{ [" + Repeat("1,", 450'000) + "] }}",
           "{{ a" + Repeat("~a", 450'000) + " }}",
           "{{ a" + Repeat("<a", 450'000) + " }}",
           "{{ '" + std::string(1'450'000, '\\') + "' }}",
           "{{ " + std::string(1'450'000, '9') + " }}",
           "{{ " + std::string(1'450'000, '9') + ".5 }}",
           deep_for + Repeat("{{loop}}", 100'000) + Repeat("{% endfor %}", 190),
           deep_for + Repeat("{{a}}", 150'000) + Repeat("{% endfor %}", 190),
           Repeat("{% macro f() %}", 190) + Repeat("{{a}}", 150'000) +
               Repeat("{% endmacro %}", 190),
           Repeat("{% if a %}", 190) + Repeat("{% set a = b %}", 50'000) +
               Repeat("{% endif %}", 190),
       }) {
    const double begin = Seconds();
    const absl::Status status = RunTemplate(source, Json::object(), Small());
    EXPECT_LT(Seconds() - begin, kSoon) << source.substr(0, 40);
    EXPECT_LT(status.message().size(), 300) << source.substr(0, 40);
  }
}

TEST_F(TemplateLimitsTest, MessagesOfErrorsAreShort) {
  for (const char* source :
       {"{{ raise_exception('a' * 10000000) }}", "{{ missing[x] + 1 }}", "{{ {}[x] + 1 }}",
        "{{ 1|map(x)|list }}", "{{ [1]|map(x)|list }}", "{{ x % 1 }}",
        "{{ ('{' ~ x ~ '}').format() }}", "{{ ('%(' ~ x ~ ')s') % {} }}",
        "{{ '{:' ~ x ~ '}' }}{{ ('{:' ~ x ~ '}').format(1) }}", "{{ namespace(**{x: 1}) }}",
        "{{ namespace({'_' ~ x: 1}) }}", "{{ {x: 1}|tojson|nope }}"}) {
    const absl::Status status = RunTemplate(source, {{"x", std::string(1'000'000, 'x')}});
    EXPECT_FALSE(status.ok()) << source;
    EXPECT_LT(status.message().size(), 2100) << source;
  }
}

}  // namespace
}  // namespace deltaserve::jinja
