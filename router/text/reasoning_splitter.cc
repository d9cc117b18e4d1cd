#include "router/text/reasoning_splitter.h"

#include <algorithm>
#include <array>
#include <span>

#include "router/text/tags.h"

namespace deltaserve {
namespace {

constexpr size_t kMaxSpace = 64;
constexpr std::string_view kTurnTag = "<|im_start|>";
constexpr std::string_view kTurnEndTag = "<|im_end|>";
constexpr std::array<std::string_view, 2> kEndTags = {kThinkEndTag, kToolCallTag};

enum class Answer : uint8_t { kNo, kYes, kNeedsMore };

// Does white space of at most kMaxSpace bytes and then `tag` stand at `from`?
Answer StandsAfterSpace(std::string_view text, size_t from, std::string_view tag, bool finished) {
  const size_t at = SkipSpace(text, from);
  if (at - from > kMaxSpace) return Answer::kNo;
  const std::string_view rest = text.substr(at);
  if (rest.starts_with(tag)) return Answer::kYes;
  return !finished && tag.starts_with(rest) ? Answer::kNeedsMore : Answer::kNo;
}

}  // namespace

ReasoningSplitter::ReasoningSplitter(bool starts_in_reasoning,
                                     ReasoningNewlines newlines,
                                     CallsInReasoning calls)
    : newlines_(newlines), calls_(calls), in_reasoning_(starts_in_reasoning) {}

ReasoningSplitter::Result ReasoningSplitter::Add(std::string_view piece) {
  buffer_.append(piece);
  return Take(/*finished=*/false);
}

ReasoningSplitter::Result ReasoningSplitter::Finish() { return Take(/*finished=*/true); }

ReasoningSplitter::Result ReasoningSplitter::Take(bool finished) {
  Result result;
  if (at_start_ && !TakeStart(finished)) return result;
  if (in_reasoning_ && !TakeReasoning(finished, &result)) return result;
  TakeContent(&result);
  return result;
}

bool ReasoningSplitter::TakeStart(bool finished) {
  const Answer answer = StandsAfterSpace(buffer_, 0, kThinkTag, finished);
  if (answer == Answer::kNeedsMore) return false;
  at_start_ = false;
  if (answer == Answer::kYes) {
    buffer_.erase(0, SkipSpace(buffer_, 0) + kThinkTag.size());
    in_reasoning_ = true;
  }
  return true;
}

bool ReasoningSplitter::TakeReasoning(bool finished, Result* result) {
  const std::span<const std::string_view> tags =
      std::span(kEndTags).first(calls_ == CallsInReasoning::kEndIt ? 2 : 1);
  size_t done = 0;
  holds_call_ = false;
  for (size_t from = 0;;) {
    const auto hit = FindTag(buffer_, from, tags);
    if (!hit) {
      done = finished ? buffer_.size() : FindPartialTag(buffer_, done, tags);
      break;
    }
    done = hit->at;
    from = hit->at + hit->tag.size();
    if (hit->tag == kThinkEndTag) {
      Close(hit->at, from, result);
      return true;
    }
    const Answer call = StandsAfterSpace(buffer_, from, kFunctionTag, finished);
    holds_call_ = call != Answer::kNo;
    if (call == Answer::kNeedsMore) break;
    if (call == Answer::kNo) {
      done = from;
      continue;
    }
    const auto end = FindClosingTag(hit->at, finished);
    if (!end) break;
    if (*end < buffer_.size()) {
      Close(*end, *end + kThinkEndTag.size(), result);
    } else {
      Close(hit->at, hit->at, result);
      ended_by_call_ = true;
    }
    return true;
  }
  PutReasoning(std::string_view(buffer_).substr(0, done), result);
  buffer_.erase(0, done);
  return false;
}

std::optional<size_t> ReasoningSplitter::FindClosingTag(size_t call_at, bool finished) {
  // A call that waits is at the front, and what of it is searched needs no second look.
  const size_t from = call_at + (call_at == 0 ? call_scanned_ : 0);
  const size_t end = buffer_.find(kThinkEndTag, from);
  if (end != std::string::npos) {
    return end - call_at <= kMaxHeldReasoningBytes ? end : buffer_.size();
  }
  const size_t held = buffer_.size() - call_at;
  if (finished || held > kMaxHeldReasoningBytes + kThinkEndTag.size()) return buffer_.size();
  call_scanned_ = held - std::min(held, kThinkEndTag.size() - 1);
  return std::nullopt;
}

void ReasoningSplitter::PutReasoning(std::string_view text, Result* result) {
  if (newlines_ == ReasoningNewlines::kKeep) {
    result->reasoning.append(text);
    return;
  }
  const size_t first = text.find_first_not_of('\n');
  if (first == std::string_view::npos) {
    held_newlines_ += text.size();
    return;
  }
  const size_t end = text.find_last_not_of('\n') + 1;
  if (reasoning_text_) result->reasoning.append(held_newlines_ + first, '\n');
  result->reasoning.append(text.substr(first, end - first));
  reasoning_text_ = true;
  held_newlines_ = text.size() - end;
}

void ReasoningSplitter::Close(size_t reasoning_end, size_t content_begin, Result* result) {
  PutReasoning(std::string_view(buffer_).substr(0, reasoning_end), result);
  buffer_.erase(0, content_begin);
  in_reasoning_ = false;
  trim_content_ = newlines_ == ReasoningNewlines::kTrim;
}

void ReasoningSplitter::TakeContent(Result* result) {
  size_t from = 0;
  if (trim_content_) {
    from = std::min(buffer_.find_first_not_of('\n'), buffer_.size());
    trim_content_ = from == buffer_.size();
  }
  result->content.append(buffer_, from);
  buffer_.clear();
}

bool EndsInsideReasoning(std::string_view rendered_prompt) {
  const size_t turn = rendered_prompt.rfind(kTurnTag);
  if (turn != std::string_view::npos) rendered_prompt.remove_prefix(turn);
  const size_t open = rendered_prompt.rfind(kThinkTag);
  if (open == std::string_view::npos) return false;
  const std::string_view rest = rendered_prompt.substr(open);
  return rest.find(kThinkEndTag) == std::string_view::npos &&
         rest.find(kTurnEndTag) == std::string_view::npos;
}

}  // namespace deltaserve
