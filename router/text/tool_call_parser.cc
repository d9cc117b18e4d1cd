#include "router/text/tool_call_parser.h"

#include <algorithm>
#include <array>
#include <optional>
#include <span>

#include "router/text/ascii_text.h"
#include "router/text/tags.h"

namespace deltaserve {
namespace {

using Tags = std::span<const std::string_view>;

constexpr std::array<std::string_view, 2> kOutsideTags = {kToolCallTag, kFunctionTag};
constexpr std::array<std::string_view, 3> kOpenedTags = {kFunctionTag, kToolCallEndTag,
                                                         kToolCallTag};
constexpr std::array<std::string_view, 5> kBodyTags = {kParameterTag, kFunctionEndTag,
                                                       kToolCallEndTag, kToolCallTag, kFunctionTag};
constexpr std::array<std::string_view, 4> kValueTags = {kParameterEndTag, kParameterTag,
                                                        kFunctionEndTag, kToolCallEndTag};
constexpr std::array<std::string_view, 4> kEndingTags = {kParameterEndTag, kParameterTag,
                                                         kToolCallTag, kFunctionTag};

// What stands behind "<function=" or "<parameter=".
struct TagName {
  enum class Kind : uint8_t { kWhole, kNone, kUnfinished };
  Kind kind;
  std::string_view name;  // of a whole one
  size_t end = 0;         // of a whole one: past its '>'
};

TagName ReadTagName(std::string_view text, size_t at, bool finished) {
  const std::string_view window = text.substr(at, kMaxToolNameBytes + 1);
  const size_t length = window.find_first_of(">\n<");
  if (length == std::string_view::npos) {
    const bool more = !finished && window.size() <= kMaxToolNameBytes;
    return {more ? TagName::Kind::kUnfinished : TagName::Kind::kNone, ""};
  }
  const std::string_view name = StripAsciiSpace(window.substr(0, length));
  if (window[length] != '>' || name.empty()) return {TagName::Kind::kNone, ""};
  return {TagName::Kind::kWhole, name, at + length + 1};
}

// The first tag at most kMaxHeldToolBytes into `text`, or what its absence means.
struct HeldSearch {
  std::optional<TagHit> hit;
  bool needs_more = false;
};

HeldSearch SearchHeld(std::string_view text, size_t from, Tags tags, bool finished) {
  HeldSearch search{FindTag(text, from, tags)};
  if (search.hit && search.hit->at > kMaxHeldToolBytes) search.hit.reset();
  search.needs_more = !search.hit && !finished && text.size() <= kMaxHeldToolBytes + kLongestTag;
  return search;
}

// The offset before which a tag cannot begin, once `text` has been searched.
size_t Searched(std::string_view text) {
  return text.size() - std::min(text.size(), kLongestTag - 1);
}

}  // namespace

std::vector<ToolCallEvent> ToolCallParser::Add(std::string_view piece) {
  return Run(piece, /*finished=*/false);
}

std::vector<ToolCallEvent> ToolCallParser::Finish() { return Run("", /*finished=*/true); }

ToolCallParser::Events ToolCallParser::Run(std::string_view piece, bool finished) {
  finished_ = finished;
  buffer_.append(piece);
  Events events;
  while (Step(&events)) continue;
  buffer_.erase(0, begin_);
  begin_ = 0;
  return events;
}

bool ToolCallParser::Step(Events* events) {
  switch (state_) {
    case State::kOutside:
      return StepOutside(events);
    case State::kOpened:
      return StepOpened(events);
    case State::kName:
      return StepName(events);
    case State::kBody:
      return StepBody(events);
    case State::kValue:
      return StepValue(events);
    case State::kEnding:
      return StepEnding(events);
  }
  return false;
}

bool ToolCallParser::StepOutside(Events* events) {
  const auto hit = FindTag(rest(), 0, kOutsideTags);
  if (!hit) {
    PutOutside(finished_ ? rest().size() : FindPartialTag(rest(), 0, kOutsideTags), events);
    return false;
  }
  PutOutside(hit->at, events);
  tag_at_ = 0;
  GoTo(hit->tag == kToolCallTag ? State::kOpened : State::kName);
  return true;
}

bool ToolCallParser::StepOpened(Events* events) {
  const HeldSearch search =
      SearchHeld(rest(), std::max(scanned_, kToolCallTag.size()), kOpenedTags, finished_);
  if (search.needs_more) {
    scanned_ = Searched(rest());
    return false;
  }
  if (search.hit && search.hit->tag == kFunctionTag) {
    tag_at_ = search.hit->at;
    GoTo(State::kName);
    return true;
  }
  if (search.hit && search.hit->tag == kToolCallTag) {
    PutOutside(search.hit->at, events);
    GoTo(State::kOpened);
    return true;
  }
  PutOutside(search.hit ? search.hit->at + search.hit->tag.size() : kToolCallTag.size(), events);
  GoTo(State::kOutside);
  return true;
}

bool ToolCallParser::StepName(Events* events) {
  const size_t name_at = tag_at_ + kFunctionTag.size();
  const TagName name = ReadTagName(rest(), name_at, finished_);
  if (name.kind == TagName::Kind::kUnfinished) return false;
  if (name.kind == TagName::Kind::kNone) {
    PutOutside(name_at, events);
    GoTo(State::kOutside);
    return true;
  }
  StartCall(name.name, events);
  Drop(name.end);
  GoTo(State::kBody);
  return true;
}

bool ToolCallParser::StepBody(Events* events) {
  const auto hit = FindTag(rest(), 0, kBodyTags);
  if (!hit) {
    Drop(finished_ ? rest().size() : FindPartialTag(rest(), 0, kBodyTags));
    if (finished_) BreakOff(events);
    return finished_;
  }
  Drop(hit->at);
  if (hit->tag != kParameterTag) {
    if (hit->tag == kFunctionEndTag || hit->tag == kToolCallEndTag) Drop(hit->tag.size());
    EndCall(events);
    return true;
  }
  const TagName name = ReadTagName(rest(), kParameterTag.size(), finished_);
  if (name.kind == TagName::Kind::kUnfinished) return false;
  if (name.kind == TagName::Kind::kNone) {
    Drop(kParameterTag.size());
    return true;
  }
  BeginValue(name.name, events);
  Drop(name.end);
  return true;
}

bool ToolCallParser::StepValue(Events* events) {
  const auto hit = FindTag(rest(), 0, kValueTags);
  if (!hit) {
    AddToValue(finished_ ? rest().size() : FindPartialTag(rest(), 0, kValueTags), events);
    if (finished_) {
      EndValue(events);
      BreakOff(events);
    }
    return finished_;
  }
  AddToValue(hit->at, events);
  if (hit->tag == kParameterEndTag) {
    Drop(hit->tag.size());
    EndValue(events);
    return true;
  }
  if (hit->tag != kParameterTag) {
    GoTo(State::kEnding);
    return true;
  }
  const TagName name = ReadTagName(rest(), kParameterTag.size(), finished_);
  if (name.kind == TagName::Kind::kUnfinished) return false;
  if (name.kind == TagName::Kind::kNone) {
    AddToValue(kParameterTag.size(), events);
    return true;
  }
  EndValue(events);
  BeginValue(name.name, events);
  Drop(name.end);
  return true;
}

bool ToolCallParser::StepEnding(Events* events) {
  const HeldSearch search = SearchHeld(rest(), scanned_, kEndingTags, finished_);
  if (search.needs_more) {
    scanned_ = Searched(rest());
    return false;
  }
  if (search.hit && search.hit->tag == kParameterEndTag) {
    AddToValue(search.hit->at, events);
    GoTo(State::kValue);
    return true;
  }
  EndValue(events);
  EndCall(events);
  Drop(rest().find('>') + 1);
  return true;
}

void ToolCallParser::GoTo(State state) {
  state_ = state;
  scanned_ = 0;
}

void ToolCallParser::PutOutside(size_t num_bytes, Events* events) {
  if (num_calls_ == 0 && num_bytes > 0) {
    if (events->empty()) events->push_back({ToolCallEvent::Kind::kContent});
    events->back().text.append(rest().substr(0, num_bytes));
  }
  Drop(num_bytes);
}

void ToolCallParser::StartCall(std::string_view name, Events* events) {
  name_ = std::string(name);
  events->push_back({ToolCallEvent::Kind::kCallStart, num_calls_, name_});
  events->push_back({ToolCallEvent::Kind::kArguments, num_calls_});
  arguments_.Open(&events->back().text);
  ++num_calls_;
}

void ToolCallParser::EndCall(Events* events) {
  std::string json;
  arguments_.Close(&json);
  PutArguments(json, events);
  events->push_back({ToolCallEvent::Kind::kCallEnd, num_calls_ - 1});
  GoTo(State::kOutside);
}

void ToolCallParser::BreakOff(Events* events) {
  EndCall(events);
  broke_off_ = true;
}

void ToolCallParser::BeginValue(std::string_view name, Events* events) {
  std::string json;
  arguments_.BeginValue(name, schema_->TypeOf(name_, name), &json);
  PutArguments(json, events);
  GoTo(State::kValue);
}

void ToolCallParser::AddToValue(size_t num_bytes, Events* events) {
  std::string json;
  arguments_.AddToValue(rest().substr(0, num_bytes), &json);
  PutArguments(json, events);
  Drop(num_bytes);
}

void ToolCallParser::EndValue(Events* events) {
  std::string json;
  arguments_.EndValue(&json);
  PutArguments(json, events);
  GoTo(State::kBody);
}

void ToolCallParser::PutArguments(std::string_view json, Events* events) {
  if (json.empty()) return;
  if (events->empty() || events->back().kind != ToolCallEvent::Kind::kArguments) {
    events->push_back({ToolCallEvent::Kind::kArguments, num_calls_ - 1});
  }
  events->back().text.append(json);
}

}  // namespace deltaserve
