#include "router/text/added_tokens.h"

#include "kernels/base/check.h"
#include "kernels/base/utf8.h"
#include "router/text/unicode.h"

namespace deltaserve {
namespace {

uint64_t ChildKey(int32_t node, uint8_t byte) {
  return static_cast<uint64_t>(static_cast<uint32_t>(node)) << 8 | byte;
}

// Bytes of white space that `text` begins with.
size_t LeadingSpace(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const Utf8Step step = NextUtf8(text.substr(at));
    if (!unicode::IsSpace(step.code_point)) break;
    at += step.length;
  }
  return at;
}

// Bytes of white space that `text` ends with.
size_t TrailingSpace(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    size_t start = end - 1;
    while (start > 0 && (static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) --start;
    if (!unicode::IsSpace(NextUtf8(text.substr(start)).code_point)) break;
    end = start;
  }
  return text.size() - end;
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(const std::vector<AddedToken>& tokens) : tokens_(tokens) {
  roots_.fill(-1);
  const auto new_node = [this] {
    token_of_node_.push_back(-1);
    return static_cast<int32_t>(token_of_node_.size()) - 1;
  };
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const std::string& content = tokens_[i].content;
    DS_CHECK(!content.empty());
    int32_t& root = roots_[static_cast<uint8_t>(content[0])];
    if (root == -1) root = new_node();
    int32_t node = root;
    for (const char c : std::string_view(content).substr(1)) {
      const auto [child, is_new] =
          children_.try_emplace(ChildKey(node, static_cast<uint8_t>(c)), 0);
      if (is_new) child->second = new_node();
      node = child->second;
    }
    int32_t& token = token_of_node_[static_cast<size_t>(node)];
    DS_CHECK_EQ(token, -1) << "added token twice: " << content;
    token = static_cast<int32_t>(i);
  }
}

int32_t AddedTokenMatcher::LongestAt(std::string_view text) const {
  int32_t node = roots_[static_cast<uint8_t>(text[0])];
  int32_t longest = -1;
  for (size_t length = 1; node != -1; ++length) {
    const int32_t token = token_of_node_[static_cast<size_t>(node)];
    if (token != -1) longest = token;
    if (length == text.size()) break;
    const auto child = children_.find(ChildKey(node, static_cast<uint8_t>(text[length])));
    node = child == children_.end() ? -1 : child->second;
  }
  return longest;
}

std::vector<AddedTokenMatcher::Span> AddedTokenMatcher::Split(std::string_view text) const {
  std::vector<Span> spans;
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    const int32_t index = LongestAt(text.substr(at));
    if (index == -1) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<size_t>(index)];
    size_t start = at;
    at += token.content.size();
    size_t stop = at;
    // White space that an earlier token took is not taken twice; a token that begins inside it
    // still counts.
    if (token.lstrip && start > done) start -= TrailingSpace(text.substr(done, start - done));
    if (token.rstrip) stop += LeadingSpace(text.substr(stop));
    if (done < start) spans.push_back({std::nullopt, text.substr(done, start - done)});
    spans.push_back({token.id, text.substr(start, stop - start)});
    done = stop;
  }
  if (done < text.size()) spans.push_back({std::nullopt, text.substr(done)});
  return spans;
}

}  // namespace deltaserve
