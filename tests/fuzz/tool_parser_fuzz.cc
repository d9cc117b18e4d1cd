// The tool-call parser: what it returns does not depend on the pieces, arguments are JSON, every
// call ends, and content is the start of the text.

#include "kernels/base/check.h"
#include "nlohmann/json.hpp"
#include "router/text/python_literal.h"
#include "router/text/tool_call_parser.h"
#include "tests/fuzz/fuzz_target.h"

namespace deltaserve {
namespace {

const ToolSchema& Schema() {
  static const auto& schema = *new ToolSchema([] {
    auto parsed = ToolSchema::Parse(std::vector<std::string>{
        R"({"name": "f", "parameters": {"properties": {
            "s": {"type": "string"}, "i": {"type": "integer"}, "n": {"type": "number"},
            "b": {"type": "boolean"}, "o": {"type": "object"}, "x": {"type": "other"},
            "z": {"type": ["null", "string"]}}}})"});
    DS_CHECK_OK(parsed.status());
    return *std::move(parsed);
  }());
  return schema;
}

struct Parsed {
  std::string content;
  std::vector<std::string> names;
  std::vector<std::string> arguments;
  size_t num_ended = 0;

  friend bool operator==(const Parsed&, const Parsed&) = default;
};

void Append(const std::vector<ToolCallEvent>& events, Parsed* parsed) {
  for (const ToolCallEvent& event : events) {
    switch (event.kind) {
      case ToolCallEvent::Kind::kContent:
        DS_CHECK(parsed->names.empty());
        parsed->content += event.text;
        break;
      case ToolCallEvent::Kind::kCallStart:
        DS_CHECK(event.index == parsed->names.size() && event.index == parsed->num_ended);
        parsed->names.push_back(event.text);
        parsed->arguments.emplace_back();
        break;
      case ToolCallEvent::Kind::kArguments:
        DS_CHECK_EQ(event.index + 1, parsed->names.size());
        parsed->arguments.back() += event.text;
        break;
      case ToolCallEvent::Kind::kCallEnd:
        DS_CHECK_EQ(event.index, parsed->num_ended);
        ++parsed->num_ended;
        break;
    }
  }
}

Parsed Parse(const std::vector<std::string_view>& pieces) {
  ToolCallParser parser(Schema());
  Parsed parsed;
  for (const std::string_view piece : pieces) Append(parser.Add(piece), &parsed);
  Append(parser.Finish(), &parsed);
  DS_CHECK_EQ(parser.num_calls(), parsed.names.size());
  return parsed;
}

}  // namespace
}  // namespace deltaserve

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace deltaserve;
  const std::string text = MakeUtf8(FuzzText(data, size));
  const Parsed whole = Parse({text});
  for (const size_t longest : {1u, 4u, 30u}) {
    DS_CHECK(Parse(CutText(text, longest, static_cast<uint32_t>(size))) == whole);
  }
  DS_CHECK_EQ(whole.num_ended, whole.names.size());
  DS_CHECK(text.starts_with(whole.content));
  for (const std::string& arguments : whole.arguments) {
    const auto parsed = nlohmann::json::parse(arguments, nullptr, /*allow_exceptions=*/false);
    DS_CHECK(parsed.is_object()) << arguments;
  }
  if (const auto json = PythonLiteralToJson(text)) {
    DS_CHECK(nlohmann::json::accept(*json)) << *json;
  }
  return 0;
}
