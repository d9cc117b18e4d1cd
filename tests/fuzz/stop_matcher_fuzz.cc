// The stop matcher against a search of the whole text.

#include <algorithm>

#include "kernels/base/check.h"
#include "router/text/stop_matcher.h"
#include "tests/fuzz/fuzz_target.h"

namespace deltaserve {
namespace {

// Stop strings, each behind a byte of its length (1 to 8), from the front of `text`.
std::vector<std::string> TakeStops(std::string_view* text) {
  std::vector<std::string> stops;
  for (int count = TakeByte(text) % 5; count > 0; --count) {
    const size_t length = 1 + TakeByte(text) % 8;
    const std::string_view stop = text->substr(0, length);
    if (!stop.empty()) stops.emplace_back(stop);
    text->remove_prefix(stop.size());
  }
  return stops;
}

struct Expected {
  std::string text;
  std::optional<size_t> matched;
};

Expected Search(std::string_view text, const std::vector<std::string>& stops, bool include_stop) {
  for (size_t end = 1; end <= text.size(); ++end) {
    const std::string_view before = text.substr(0, end);
    std::optional<size_t> matched;
    for (size_t i = 0; i < stops.size(); ++i) {
      if (!before.ends_with(stops[i])) continue;
      if (!matched || stops[i].size() > stops[*matched].size()) matched = i;
    }
    if (!matched) continue;
    const size_t cut = include_stop ? 0 : stops[*matched].size();
    return {std::string(before.substr(0, end - cut)), matched};
  }
  return {std::string(text), {}};
}

void Check(std::string_view text, const std::vector<std::string>& stops, bool include_stop) {
  const Expected expected = Search(text, stops, include_stop);
  for (const size_t longest : {0u, 1u, 5u}) {
    StopMatcher matcher(stops, include_stop);
    std::string released;
    for (const std::string_view piece : CutText(text, longest, 1)) {
      released += matcher.Add(piece).text;
    }
    released += matcher.Finish();
    DS_CHECK(released == expected.text);
    DS_CHECK(matcher.matched() == expected.matched);
  }
}

}  // namespace
}  // namespace deltaserve

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace deltaserve;
  std::string_view text = FuzzText(data, std::min<size_t>(size, 2048));
  const std::vector<std::string> stops = TakeStops(&text);
  Check(text, stops, false);
  Check(text, stops, true);
  return 0;
}
