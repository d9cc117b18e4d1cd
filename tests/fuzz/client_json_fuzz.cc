// The reader of clients' JSON: it takes what nlohmann takes and is within its bounds, as the same
// value; all else it refuses with an error that names a field.

#include <algorithm>

#include "kernels/base/check.h"
#include "proto/error.h"
#include "router/text/client_json.h"
#include "router/text/json_text.h"
#include "tests/fuzz/fuzz_target.h"

namespace deltaserve {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxValues = 50;

// Whether a number in `text` may be beyond 64 bits.
bool HasLongNumber(std::string_view text) {
  size_t digits = 0;
  for (const char c : text) {
    digits = c >= '0' && c <= '9' ? digits + 1 : 0;
    if (digits >= 19) return true;
  }
  return false;
}

size_t NumValues(const Json& value) {
  size_t count = 1;
  if (value.is_structured()) {
    for (const Json& inner : value) count += NumValues(inner);
  }
  return count;
}

}  // namespace
}  // namespace deltaserve

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace deltaserve;
  const std::string text(FuzzText(data, size));
  const auto depth =
      std::count(text.begin(), text.end(), '[') + std::count(text.begin(), text.end(), '{');
  const auto read =
      ReadClientJson(text, {.field = "args", .remedy = "send JSON", .max_values = kMaxValues});
  if (!read.ok()) {
    const v1::ErrorDetail detail = DetailOf(read.status());
    DS_CHECK(detail.code() == v1::ERROR_CODE_INVALID_FIELD && detail.field().starts_with("args"));
    DS_CHECK(!detail.value().empty() && !detail.remedy().empty());
  }
  if (depth > kMaxJsonDepth) return 0;  // nlohmann would follow it, however deep
  const Json expected = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (read.ok()) {
    DS_CHECK(!expected.is_discarded() && *read == expected && NumValues(*read) <= kMaxValues);
    DS_CHECK_EQ(DumpJson(*read), DumpJson(expected));
    return 0;
  }
  // Values of members that come again count too, and are not in `expected`.
  const auto marks = std::count_if(text.begin(), text.end(), [](char c) {
    return std::string_view(",:[{").find(c) != std::string_view::npos;
  });
  DS_CHECK(expected.is_discarded() || HasLongNumber(text) ||
           static_cast<size_t>(marks) >= kMaxValues)
      << text;
  return 0;
}
