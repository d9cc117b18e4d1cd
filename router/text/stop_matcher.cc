#include "router/text/stop_matcher.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace deltaserve {

std::optional<StopStringsFault> CheckStopStrings(std::span<const std::string> stop_strings) {
  if (stop_strings.size() > kMaxStopStrings) {
    return StopStringsFault{"stop_strings", absl::StrCat("at most ", kMaxStopStrings, " strings"),
                            absl::StrCat(stop_strings.size(), " strings"), "leave some out"};
  }
  for (size_t i = 0; i < stop_strings.size(); ++i) {
    const std::string field = absl::StrCat("stop_strings[", i, "]");
    if (stop_strings[i].empty()) {
      return StopStringsFault{field, "1 character or more", "an empty string", "leave it out"};
    }
    if (stop_strings[i].size() > kMaxStopStringBytes) {
      return StopStringsFault{field, absl::StrCat("at most ", kMaxStopStringBytes, " bytes"),
                              absl::StrCat(stop_strings[i].size(), " bytes"), "shorten it"};
    }
  }
  return std::nullopt;
}

StopMatcher::StopMatcher(std::span<const std::string> stop_strings, bool include_stop)
    : include_stop_(include_stop) {
  patterns_.reserve(stop_strings.size());
  for (const std::string& text : stop_strings) {
    Pattern pattern{text, std::vector<size_t>(text.size() + 1)};
    size_t border = 0;
    for (size_t i = 1; i < text.size(); ++i) {
      while (border > 0 && text[i] != text[border]) border = pattern.border[border];
      if (text[i] == text[border]) ++border;
      pattern.border[i + 1] = border;
    }
    patterns_.push_back(std::move(pattern));
  }
}

void StopMatcher::Advance(char byte, Pattern* pattern) {
  // No pattern is whole here: a whole one ends the stream.
  while (pattern->length > 0 && pattern->text[pattern->length] != byte) {
    pattern->length = pattern->border[pattern->length];
  }
  if (pattern->text[pattern->length] == byte) ++pattern->length;
}

StopMatcher::Result StopMatcher::Add(std::string_view piece, bool active) {
  if (matched_) return {};
  Result result;
  std::string text = std::exchange(held_, "");
  if (!active || patterns_.empty()) {
    for (Pattern& pattern : patterns_) pattern.length = 0;
    text.append(piece);
    result.text = std::move(text);
    return result;
  }
  size_t held = 0;
  for (const char byte : piece) {
    text.push_back(byte);
    held = 0;
    for (size_t i = 0; i < patterns_.size(); ++i) {
      Pattern& pattern = patterns_[i];
      Advance(byte, &pattern);
      held = std::max(held, pattern.length);
      const bool whole = pattern.length == pattern.text.size();
      if (whole && (!matched_ || pattern.text.size() > patterns_[*matched_].text.size())) {
        matched_ = i;
      }
    }
    if (matched_) {
      if (!include_stop_) text.resize(text.size() - patterns_[*matched_].text.size());
      result.text = std::move(text);
      result.matched = matched_;
      return result;
    }
  }
  if (piece.empty()) held = text.size();
  held_ = text.substr(text.size() - held);
  text.resize(text.size() - held);
  result.text = std::move(text);
  return result;
}

std::string StopMatcher::Finish() {
  for (Pattern& pattern : patterns_) pattern.length = 0;
  return std::exchange(held_, "");
}

}  // namespace deltaserve
