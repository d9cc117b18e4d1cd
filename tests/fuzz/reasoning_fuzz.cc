// The reasoning splitter: what it returns does not depend on the pieces, keeps the order of the
// text and, unless it trims, all of it but tags and the white space before the first.

#include "kernels/base/check.h"
#include "router/text/reasoning_splitter.h"
#include "tests/fuzz/fuzz_target.h"

namespace deltaserve {
namespace {

ReasoningSplitter::Result Split(const std::vector<std::string_view>& pieces,
                                bool starts_in_reasoning,
                                ReasoningNewlines newlines) {
  ReasoningSplitter splitter(starts_in_reasoning, newlines);
  ReasoningSplitter::Result all;
  const auto add = [&all](const ReasoningSplitter::Result& result) {
    DS_CHECK(all.content.empty() || result.reasoning.empty());
    all.reasoning += result.reasoning;
    all.content += result.content;
  };
  for (const std::string_view piece : pieces) add(splitter.Add(piece));
  add(splitter.Finish());
  return all;
}

}  // namespace
}  // namespace deltaserve

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace deltaserve;
  std::string_view text = FuzzText(data, size);
  const uint8_t choice = TakeByte(&text);
  const bool starts_in_reasoning = (choice & 1) != 0;
  const auto newlines = (choice & 2) != 0 ? ReasoningNewlines::kTrim : ReasoningNewlines::kKeep;
  const auto whole = Split({text}, starts_in_reasoning, newlines);
  for (const size_t longest : {1u, 3u, 20u}) {
    const auto parts = Split(CutText(text, longest, choice), starts_in_reasoning, newlines);
    DS_CHECK(parts.reasoning == whole.reasoning);
    DS_CHECK(parts.content == whole.content);
  }
  DS_CHECK(text.ends_with(whole.content));
  const std::string_view before = text.substr(0, text.size() - whole.content.size());
  DS_CHECK(before.find(whole.reasoning) != std::string_view::npos);
  if (newlines == ReasoningNewlines::kKeep && starts_in_reasoning) {
    DS_CHECK_LE(text.size(), whole.reasoning.size() + whole.content.size() + 64 + 15);
  }
  EndsInsideReasoning(text);
  return 0;
}
