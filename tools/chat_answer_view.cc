#include "tools/chat_answer_view.h"

#include <cstdio>

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

// A model's control characters must not steer a terminal: ^[ in place of an escape.
std::string Visible(const std::string& text) {
  std::string shown;
  for (const char c : text) {
    const bool is_control = (c >= 0 && c < ' ' && c != '\n' && c != '\t') || c == '\x7f';
    if (is_control) shown += '^';
    shown += is_control ? static_cast<char>(c ^ 0x40) : c;
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

void AnswerView::Break() {
  Close();
  std::fputs("[no whole answer: what came of it stays part of the conversation]\n", stderr);
}

void AnswerView::End(const v1::Finished& finished) {
  const absl::Time last = absl::Now();
  Close();
  const uint32_t tokens = finished.usage().completion_tokens();
  const absl::Time first = first_.value_or(last);
  const double seconds = absl::ToDoubleSeconds(last - first);
  // The first token's time is the prompt's; the rate is that of the others.
  const double rate = tokens > 1 && seconds > 0 ? (tokens - 1) / seconds : 0;
  std::fprintf(stderr, "[%u tokens, %.1f tokens/s, first after %.2f s; prompt %u tokens; %s]\n",
               tokens, rate, absl::ToDoubleSeconds(first - began_),
               finished.usage().prompt_tokens(), ReasonName(finished));
}

v1::Message AnswerView::message() const {
  v1::Message message;
  message.set_role("assistant");
  message.add_content()->set_text(content_);
  message.set_reasoning(reasoning_);
  for (const auto& [index, call] : calls_) {
    // Of a cancelled answer the last call is not whole, and so is not history.
    const bool whole = !call.arguments_json().empty() && call.arguments_json().back() == '}';
    if (whole) *message.add_tool_calls() = call;
  }
  return message;
}

void ShowError(const absl::Status& status) {
  const v1::ErrorDetail detail = DetailOf(status);
  std::fprintf(stderr, "error: %s\n", std::string(status.message()).c_str());
  if (!detail.field().empty()) std::fprintf(stderr, "  field:  %s\n", detail.field().c_str());
  if (!detail.remedy().empty()) std::fprintf(stderr, "  remedy: %s\n", detail.remedy().c_str());
}

}  // namespace deltaserve
