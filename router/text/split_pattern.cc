#define PCRE2_CODE_UNIT_WIDTH 8
#include "router/text/split_pattern.h"

#include <pcre2.h>

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "kernels/base/utf8.h"
#include "router/text/split_syntax.h"

namespace deltaserve {
namespace {

// Steps of matching allowed: enough to run over the rest of the text a hundred times for one piece.
constexpr uint64_t kMatchLimitBase = 10'000'000;
constexpr uint64_t kMatchLimitPerSymbol = 100;
constexpr uint32_t kHeapLimitKib = 64 * 1024;

struct FreeCode {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct FreeMatchData {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct FreeMatchContext {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};

std::string ErrorText(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

// What one Split works with. PCRE2's own allocations of it are small; where they fail, so does the
// process.
class Matcher {
 public:
  Matcher(const pcre2_code* code, const std::string& symbols)
      : code_(code),
        symbols_(symbols),
        data_(pcre2_match_data_create(1, nullptr)),
        context_(pcre2_match_context_create(nullptr)) {
    DS_CHECK(data_ != nullptr && context_ != nullptr) << "out of memory";
    const uint64_t limit = kMatchLimitBase + kMatchLimitPerSymbol * symbols.size();
    pcre2_set_match_limit(context_.get(),
                          static_cast<uint32_t>(std::min<uint64_t>(limit, UINT32_MAX)));
    pcre2_set_heap_limit(context_.get(), kHeapLimitKib);
  }

  // The first match from symbol `start` on as {first, end}; {size, size} where there is none.
  absl::StatusOr<std::pair<size_t, size_t>> Find(size_t start) {
    int result = Match(start, 0);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = Match(start, PCRE2_NO_JIT);
    if (result == PCRE2_ERROR_NOMATCH) return std::pair(symbols_.size(), symbols_.size());
    if (result < 0) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "the tokenizer's split pattern gave up at character ", start, " of a text of ",
          symbols_.size(), " (", ErrorText(result), "); send a shorter text"));
    }
    const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(data_.get());
    DS_CHECK_LT(offsets[0], offsets[1]);
    return std::pair(size_t{offsets[0]}, size_t{offsets[1]});
  }

 private:
  int Match(size_t start, uint32_t options) {
    return pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(symbols_.data()), symbols_.size(), start,
                       options, data_.get(), context_.get());
  }

  const pcre2_code* code_;
  const std::string& symbols_;
  std::unique_ptr<pcre2_match_data, FreeMatchData> data_;
  std::unique_ptr<pcre2_match_context, FreeMatchContext> context_;
};

}  // namespace

struct SplitPattern::Compiled {
  std::unique_ptr<pcre2_code, FreeCode> code;
};

SplitPattern::SplitPattern(std::unique_ptr<const Compiled> compiled,
                           absl::flat_hash_map<char32_t, uint8_t> own_symbols)
    : compiled_(std::move(compiled)), own_symbols_(std::move(own_symbols)) {}

SplitPattern::~SplitPattern() = default;

absl::StatusOr<std::unique_ptr<SplitPattern>> SplitPattern::Create(const std::string& pattern,
                                                                   const std::string& path) {
  DS_ASSIGN_OR_RETURN(const RewrittenPattern rewritten, RewriteSplitPattern(pattern, path));
  int error = 0;
  PCRE2_SIZE error_offset = 0;
  auto compiled = std::make_unique<Compiled>();
  compiled->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(rewritten.source.data()),
                                     rewritten.source.size(), PCRE2_NEVER_UTF | PCRE2_NEVER_UCP,
                                     &error, &error_offset, nullptr));
  if (compiled->code == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a pattern: ", ErrorText(error)));
  }
  uint32_t matches_empty = 0;
  pcre2_pattern_info(compiled->code.get(), PCRE2_INFO_MATCHEMPTY, &matches_empty);
  if (matches_empty != 0) {
    return absl::UnimplementedError(
        absl::StrCat(path, " may match an empty string: that is not supported"));
  }
  // Where the system allows no JIT, pcre2_match interprets: slower, the same matches.
  pcre2_jit_compile(compiled->code.get(), PCRE2_JIT_COMPLETE);

  absl::flat_hash_map<char32_t, uint8_t> own_symbols;
  for (size_t i = 0; i < rewritten.own_characters.size(); ++i) {
    own_symbols[rewritten.own_characters[i]] = static_cast<uint8_t>(kFirstOwnSymbol + i);
  }
  return std::unique_ptr<SplitPattern>(
      new SplitPattern(std::move(compiled), std::move(own_symbols)));
}

uint8_t SplitPattern::SymbolOf(char32_t code_point) const {
  if (code_point < 0x80) return static_cast<uint8_t>(code_point);
  const auto own = own_symbols_.find(code_point);
  if (own != own_symbols_.end()) return own->second;
  return static_cast<uint8_t>(kFirstClassSymbol +
                              static_cast<uint8_t>(unicode::ClassOf(code_point)));
}

absl::StatusOr<std::vector<std::string_view>> SplitPattern::Split(std::string_view text) const {
  std::string symbols;
  symbols.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = NextUtf8(text.substr(at));
    DS_CHECK(step.kind == Utf8Step::Kind::kCharacter) << "byte " << at << " is not UTF-8";
    symbols.push_back(static_cast<char>(SymbolOf(step.code_point)));
    at += step.length;
  }
  std::vector<std::string_view> pieces;
  Matcher matcher(compiled_->code.get(), symbols);
  // Pieces are counted in symbols; `text` is walked along to find their bytes.
  const auto take = [&text, &pieces](size_t num_characters) {
    if (num_characters == 0) return;
    size_t bytes = 0;
    for (size_t i = 0; i < num_characters; ++i) bytes += NextUtf8(text.substr(bytes)).length;
    pieces.push_back(text.substr(0, bytes));
    text.remove_prefix(bytes);
  };
  for (size_t at = 0; at < symbols.size();) {
    DS_ASSIGN_OR_RETURN(const auto match, matcher.Find(at));
    take(match.first - at);
    take(match.second - match.first);
    at = match.second;
  }
  return pieces;
}

}  // namespace deltaserve
