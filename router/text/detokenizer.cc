#include "router/text/detokenizer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/utf8.h"

namespace deltaserve {
namespace {

constexpr char kReplacement[] = "\xEF\xBF\xBD";  // U+FFFD

// Appends the text of `bytes` to `text`, up to an unfinished character at the end; returns its
// offset.
size_t AppendText(std::string_view bytes, std::string* text) {
  size_t at = 0;
  while (at < bytes.size()) {
    const Utf8Step step = NextUtf8(bytes.substr(at));
    if (step.kind == Utf8Step::Kind::kIncomplete) break;
    if (step.kind == Utf8Step::Kind::kCharacter) {
      text->append(bytes.substr(at, step.length));
    } else {
      text->append(kReplacement);
    }
    at += step.length;
  }
  return at;
}

}  // namespace

Detokenizer::Detokenizer(const Tokenizer& tokenizer, bool skip_special_tokens)
    : tokenizer_(&tokenizer), skip_special_tokens_(skip_special_tokens) {}

std::string Detokenizer::Add(int32_t id) {
  if (skip_special_tokens_ && tokenizer_->IsSpecial(id)) return "";
  pending_.append(tokenizer_->TokenBytes(id));
  std::string text;
  pending_.erase(0, AppendText(pending_, &text));
  return text;
}

std::string Detokenizer::Finish() {
  return std::exchange(pending_, "").empty() ? "" : kReplacement;
}

absl::StatusOr<std::string> Decode(const Tokenizer& tokenizer,
                                   std::span<const int32_t> ids,
                                   bool skip_special_tokens) {
  Detokenizer detokenizer(tokenizer, skip_special_tokens);
  std::string text;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!tokenizer.HasToken(ids[i])) {
      return absl::InvalidArgumentError(absl::StrCat("token id ", ids[i], " at index ", i,
                                                     " has no token; ids below ",
                                                     tokenizer.num_tokens(), " have one"));
    }
    text += detokenizer.Add(ids[i]);
  }
  text += detokenizer.Finish();
  return text;
}

}  // namespace deltaserve
