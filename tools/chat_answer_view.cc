#include "tools/chat_answer_view.h"

#include <cstdio>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "proto/error.h"

namespace deltaserve {
namespace {

constexpr char kDim[] = "\x1b[2m";
constexpr char kCyan[] = "\x1b[36m";
constexpr char kPlain[] = "\x1b[0m";

const char* ReasonName(const v1::Finished& finished) {
  switch (finished.reason()) {
    case v1::FINISH_REASON_STOP:
      if (finished.match().has_stop_string()) return "stop string";
      return finished.match().has_eos_token_id() ? "end of answer" : "stop token";
    case v1::FINISH_REASON_LENGTH:
      return "longest answer reached";
    case v1::FINISH_REASON_TOOL_CALLS:
      return "tools called";
    case v1::FINISH_REASON_CANCELLED:
      return "aborted";
    default:
      return "ended";
  }
}

// A model's control characters must not steer a terminal: ^[ in place of an escape, U+FFFD in place
// of C1 controls (C2 80 to C2 9F) and of marks that turn the direction of writing. `text` holds
// whole characters.
std::string Visible(const std::string& text) {
  std::string shown;
  for (size_t i = 0; i < text.size(); ++i) {
    const std::string_view rest = std::string_view(text).substr(i);
    const char c = text[i];
    const bool is_c1 = rest.size() > 1 && c == '\xc2' && static_cast<uint8_t>(rest[1]) < 0xa0;
    const bool turns = (rest >= "\xe2\x80\xaa" && rest < "\xe2\x80\xaf") ||
                       (rest >= "\xe2\x81\xa6" && rest < "\xe2\x81\xaa");
    if (is_c1 || turns) {
      shown += "\xef\xbf\xbd";
      i += is_c1 ? 1 : 2;
      continue;
    }
    const bool is_c0 = (c >= 0 && c < ' ' && c != '\n' && c != '\t') || c == '\x7f';
    if (is_c0) shown += '^';
    shown += is_c0 ? static_cast<char>(c ^ 0x40) : c;
  }
  return shown;
}

}  // namespace

AnswerView::AnswerView(bool colours) : colours_(colours), began_(absl::Now()) {}

void AnswerView::SetStyle(Style style) {
  if (style == style_) return;
  if (style_ != Style::kNone) {
    if (colours_ && style_ != Style::kContent) std::fputs(kPlain, stdout);
    if (!at_line_start_) std::fputs("\n", stdout);
    if (!colours_ && style_ == Style::kReasoning) std::fputs("[end of reasoning]\n", stdout);
    at_line_start_ = true;
  }
  style_ = style;
  if (colours_) {
    if (style == Style::kReasoning) std::fputs(kDim, stdout);
    if (style == Style::kCall) std::fputs(kCyan, stdout);
  } else if (style == Style::kReasoning) {
    std::fputs("[reasoning]\n", stdout);
  }
}

void AnswerView::Write(Style style, const std::string& text) {
  if (text.empty()) return;
  if (!first_) first_ = absl::Now();
  SetStyle(style);
  std::fputs((colours_ ? Visible(text) : text).c_str(), stdout);
  std::fflush(stdout);
  at_line_start_ = text.back() == '\n';
}

void AnswerView::Add(const std::string& text) {
  Write(Style::kContent, text);
  content_ += text;
}

void AnswerView::Add(const v1::ChatDelta& delta) {
  num_tokens_ = delta.first_index() + 1;
  Write(Style::kReasoning, delta.reasoning());
  reasoning_ += delta.reasoning();
  Add(delta.content());
  for (const v1::ToolCallDelta& part : delta.tool_calls()) {
    v1::ToolCall& call = calls_[part.index()];
    if (!part.name().empty()) {
      if (style_ == Style::kCall) Write(Style::kCall, "\n");
      Write(Style::kCall, "[calls " + part.name() + "] ");
      call.set_id(part.id());
      call.set_name(part.name());
    }
    Write(Style::kCall, part.arguments_fragment());
    call.mutable_arguments_json()->append(part.arguments_fragment());
  }
}

void AnswerView::Close() {
  SetStyle(Style::kNone);
  std::fflush(stdout);
}

std::string AnswerView::Speed(uint32_t tokens) const {
  const absl::Time last = absl::Now();
  const absl::Time first = first_.value_or(last);
  const double seconds = absl::ToDoubleSeconds(last - first);
  // The first token's time is the prompt's; the rate is that of the others.
  const double rate = tokens > 1 && seconds > 0 ? (tokens - 1) / seconds : 0;
  return absl::StrFormat("%u tokens, %.1f tokens/s, first after %.2f s", tokens, rate,
                         absl::ToDoubleSeconds(first - began_));
}

void AnswerView::Cancelled() {
  const std::string speed = Speed(num_tokens_);
  Close();
  std::fprintf(stderr, "[%s; cancelled]\n", speed.c_str());
}

void AnswerView::End(const v1::Finished& finished) {
  calls_are_whole_ = finished.reason() == v1::FINISH_REASON_TOOL_CALLS;
  const std::string speed = Speed(finished.usage().completion_tokens());
  Close();
  std::fprintf(stderr, "[%s; prompt %u tokens; %s]\n", speed.c_str(),
               finished.usage().prompt_tokens(), ReasonName(finished));
}

v1::Message AnswerView::message() const {
  v1::Message message;
  message.set_role("assistant");
  message.add_content()->set_text(content_);
  message.set_reasoning(reasoning_);
  // Of an answer that broke off the last call may be cut, and so none is history.
  if (!calls_are_whole_) return message;
  for (const auto& [index, call] : calls_) *message.add_tool_calls() = call;
  return message;
}

void ShowError(const absl::Status& status) {
  const v1::ErrorDetail detail = DetailOf(status);
  std::fprintf(stderr, "error: %s\n", std::string(status.message()).c_str());
  if (!detail.field().empty()) std::fprintf(stderr, "  field:  %s\n", detail.field().c_str());
  if (!detail.remedy().empty()) std::fprintf(stderr, "  remedy: %s\n", detail.remedy().c_str());
}

}  // namespace deltaserve
