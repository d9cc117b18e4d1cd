// Equality with jinja2 on everything that tools/template_goldens/make_goldens.py wrote.

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "router/text/template/template.h"

namespace deltaserve::jinja {
namespace {

using Json = nlohmann::ordered_json;

std::string Folder() { return std::string(DELTASERVE_SOURCE_DIR) + "/tests/router/text/template/"; }

// Where the goldens are; another folder in DELTASERVE_TEMPLATE_GOLDENS compares other cases.
std::string GoldenFolder() {
  const char* other = std::getenv("DELTASERVE_TEMPLATE_GOLDENS");
  return other == nullptr ? Folder() + "goldens/" : std::string(other) + "/";
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

// The time that the goldens were told: 2026-03-05 07:08:09.000123.
Template::Context ContextOf(const Json& variables) {
  Template::Context context;
  context.variables = variables;
  context.zone = absl::FixedTimeZone(3600);
  context.now = absl::FromCivil(absl::CivilSecond(2026, 3, 5, 7, 8, 9), context.zone) +
                absl::Microseconds(123);
  return context;
}

// What we make of a template, in the form of the goldens.
Json Result(const std::string& source, const Json& variables, std::string* why) {
  const auto parsed = Template::Parse(source, "chat_template.jinja");
  if (!parsed.ok()) {
    *why = parsed.status().ToString();
    return {{"error", "parse"}};
  }
  const auto text = (*parsed)->Render(ContextOf(variables), Limits());
  if (text.ok()) return {{"text", *text}};
  *why = text.status().ToString();
  if (const auto message = RaisedMessage(text.status()); message.has_value()) {
    return {{"raised", *message}};
  }
  return {{"error", "render"}};
}

TEST(TemplateGoldensTest, ConversationsRenderAsJinja2RendersThem) {
  std::map<std::string, std::string> templates;
  std::ifstream file(GoldenFolder() + "conversations.jsonl");
  int num_renders = 0;
  for (std::string line; std::getline(file, line);) {
    const Json golden = Json::parse(line);
    for (const auto& [name, expected] : golden["renders"].items()) {
      std::string& source = templates[name];
      if (source.empty()) source = ReadFile(Folder() + "templates/" + name + ".jinja");
      std::string why;
      EXPECT_EQ(Result(source, golden["variables"], &why), expected)
          << name << " of " << golden["variables"] << "\n"
          << why;
      ++num_renders;
    }
  }
  EXPECT_EQ(num_renders, 1010);  // 360 conversations
}

// A template that jinja2 refuses to compile may fail here when it is run, and the other way round:
// both are errors to whoever asked.
TEST(TemplateGoldensTest, SnippetsRenderAsJinja2RendersThem) {
  std::ifstream file(GoldenFolder() + "snippets.jsonl");
  std::string line;
  ASSERT_TRUE(std::getline(file, line));
  const Json variables = Json::parse(line)["variables"];
  int num_snippets = 0;
  while (std::getline(file, line)) {
    const Json golden = Json::parse(line);
    ++num_snippets;
    std::string why;
    const Json result = Result(golden["source"], variables, &why);
    const bool both_fail = result.contains("error") && golden["result"].contains("error");
    if (both_fail) continue;
    EXPECT_EQ(result, golden["result"]) << golden["source"] << "\n" << why;
  }
  EXPECT_GE(num_snippets, 1400);
}

}  // namespace
}  // namespace deltaserve::jinja
