// Chat templates: an input is a template, a line "====" and the variables as JSON. Whatever they
// are, parsing and rendering end soon, within the limits, the same way each time, and an error is
// of a known kind and says where it is.

#include "kernels/base/check.h"
#include "nlohmann/json.hpp"
#include "router/text/template/template.h"
#include "tests/fuzz/fuzz_target.h"

namespace deltaserve::jinja {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kName[] = "fuzz";
constexpr std::string_view kBorder = "\n====\n";

// Small, so that an input that uses them up is still a quick one.
Limits SmallLimits() {
  Limits limits;
  limits.max_depth = 100;
  limits.max_value_depth = 50;
  limits.max_steps = 20'000;
  limits.max_output_bytes = size_t{64} << 10;
  limits.max_memory_bytes = size_t{1} << 20;
  return limits;
}

Json VariablesOf(std::string_view text) {
  Json variables = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (variables.is_object()) return variables;
  return Json::object({{"x", std::move(variables)}});
}

// "fuzz:LINE:COLUMN: words" for an error with a position, "fuzz: words" for wrong variables.
void CheckError(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kResourceExhausted:
      break;
    default:
      DS_CHECK(false) << status;
  }
  const std::string message(status.message());
  DS_CHECK(message.starts_with("fuzz:")) << status;
  DS_CHECK_LT(message.size(), 2100u) << status;
}

void RunOne(std::string_view input) {
  const size_t border = input.find(kBorder);
  const std::string source = MakeUtf8(input.substr(0, border));
  Template::Context context;
  context.now = absl::FromUnixSeconds(1'772'694'489);
  if (border != std::string_view::npos) {
    context.variables = VariablesOf(input.substr(border + kBorder.size()));
  }
  const auto parsed = Template::Parse(source, kName);
  if (!parsed.ok()) return CheckError(parsed.status());
  const Limits limits = SmallLimits();
  const absl::StatusOr<std::string> text = (*parsed)->Render(context, limits);
  const absl::StatusOr<std::string> again = (*parsed)->Render(context, limits);
  DS_CHECK(text.status() == again.status()) << text.status() << " then " << again.status();
  if (!text.ok()) return CheckError(text.status());
  DS_CHECK(*text == *again);
  DS_CHECK_LE(text->size(), limits.max_output_bytes);
  DS_CHECK(*text == MakeUtf8(*text)) << "not UTF-8";
}

}  // namespace
}  // namespace deltaserve::jinja

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  deltaserve::jinja::RunOne(deltaserve::FuzzText(data, size));
  return 0;
}
