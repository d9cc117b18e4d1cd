// What the goldens cannot show: threads, clocks and zones, and that a rendering leaves nothing.

#include "router/text/template/template.h"

#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace deltaserve::jinja {
namespace {

using Json = nlohmann::ordered_json;

std::unique_ptr<Template> Parsed(const std::string& source) {
  auto parsed = Template::Parse(source, "t");
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return *std::move(parsed);
}

std::string Rendered(const Template& compiled, const Template::Context& context) {
  const absl::StatusOr<std::string> text = compiled.Render(context, Limits());
  EXPECT_TRUE(text.ok()) << text.status();
  return text.value_or("");
}

// Constants are values that all renderings share; run under the thread sanitizer.
TEST(TemplateTest, ThreadsRenderOneTemplate) {
  const auto compiled = Parsed(
      "{% macro show(x, sep='-') %}{{ x ~ sep }}{% endmacro %}{% set ns = namespace(seen=[]) %}"
      "{% for m in messages %}{% set ns.seen = ns.seen + [m.role, 'constant', ('a', 1)] %}"
      "{{ show(m.content|upper) }}{{ {'k': 'v'}|tojson }}{% endfor %}{{ ns.seen|length }}{{ id }}");
  constexpr int kThreads = 4;
  constexpr int kTimes = 200;
  std::vector<std::string> texts(kThreads);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      Template::Context context;
      context.variables = {{"messages", {{{"role", "user"}, {"content", absl::StrCat("t", i)}}}},
                           {"id", i}};
      for (int time = 0; time < kTimes; ++time) {
        const std::string text = Rendered(*compiled, context);
        if (time > 0 && text != texts[static_cast<size_t>(i)]) ADD_FAILURE() << text;
        texts[static_cast<size_t>(i)] = text;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < kThreads; ++i) {
    EXPECT_EQ(texts[static_cast<size_t>(i)], absl::StrCat("T", i, "-{\"k\": \"v\"}3", i));
  }
}

TEST(TemplateTest, TheTimeIsToldInTheZone) {
  const auto compiled = Parsed("{{ strftime_now('%Y-%m-%d %H:%M:%S %A %j') }}");
  Template::Context context;
  context.now = absl::FromUnixSeconds(1'704'067'199);  // 2023-12-31 23:59:59 UTC
  EXPECT_EQ(Rendered(*compiled, context), "2023-12-31 23:59:59 Sunday 365");
  context.zone = absl::FixedTimeZone(2 * 3600);
  EXPECT_EQ(Rendered(*compiled, context), "2024-01-01 01:59:59 Monday 001");
  context.zone = absl::FixedTimeZone(-(9 * 3600 + 1800));
  EXPECT_EQ(Rendered(*compiled, context), "2023-12-31 14:29:59 Sunday 365");
}

TEST(TemplateTest, SummerTimeIsTheZonesOwn) {
  absl::TimeZone zone;
  if (!absl::LoadTimeZone("Europe/Berlin", &zone)) GTEST_SKIP() << "no zone files here";
  const auto compiled = Parsed("{{ strftime_now('%H:%M') }}");
  Template::Context context;
  context.zone = zone;
  context.now = absl::FromCivil(absl::CivilSecond(2026, 1, 1, 12), absl::UTCTimeZone());
  EXPECT_EQ(Rendered(*compiled, context), "13:00");
  context.now = absl::FromCivil(absl::CivilSecond(2026, 7, 1, 12), absl::UTCTimeZone());
  EXPECT_EQ(Rendered(*compiled, context), "14:00");
}

TEST(TemplateTest, ARenderingLeavesNothingToTheNext) {
  const auto compiled = Parsed(
      "{{ x }}{% set x = 1 %}{% set ns = namespace() %}{{ ns.a is defined }}{% set ns.a = 1 %}"
      "{% macro f() %}{{ y }}{% endmacro %}{{ f() }}{% set y = 2 %}{{ f() }}");
  const std::string first = Rendered(*compiled, {});
  EXPECT_EQ(first, "False2");
  EXPECT_EQ(Rendered(*compiled, {}), first);
}

TEST(TemplateTest, ALoopThatIsOverStillCounts) {
  EXPECT_EQ(
      Rendered(*Parsed("{% set ns = namespace() %}{% for x in [5, 6, 7] %}{% set ns.l = loop %}"
                       "{% if x == 6 %}{% break %}{% endif %}{% endfor %}"
                       "{{ ns.l.index }}{{ ns.l.length }}{{ ns.l.first }}"),
               {}),
      "23False");
}

}  // namespace
}  // namespace deltaserve::jinja
