#include "router/text/argument_stream.h"

#include "router/text/ascii_text.h"
#include "router/text/json_text.h"

namespace deltaserve {
namespace {

constexpr std::string_view kNull = "null";
constexpr std::string_view kNone = "none";

bool MayBecomeNull(std::string_view raw) {
  if (raw.ends_with('\n')) raw.remove_suffix(1);
  const std::string lower = AsciiLowerCase(raw.substr(0, kNull.size() + 1));
  return kNull.starts_with(lower) || kNone.starts_with(lower);
}

}  // namespace

void ArgumentStream::Open(std::string* json) {
  *this = ArgumentStream();
  *json += '{';
}

void ArgumentStream::Close(std::string* json) { *json += '}'; }

void ArgumentStream::BeginValue(std::string_view name,
                                const ParameterType& type,
                                std::string* json) {
  if (!first_) *json += ", ";
  first_ = false;
  *json += JsonString(name);
  *json += ": ";
  type_ = type;
  at_value_start_ = true;
  streaming_ = false;
  held_newline_ = false;
  raw_.clear();
}

bool ArgumentStream::Streams() const {
  if (raw_.size() > kMaxTypedValueBytes) return true;
  return type_.kind == ParameterType::Kind::kText && !(type_.nullable && MayBecomeNull(raw_));
}

void ArgumentStream::AddToValue(std::string_view bytes, std::string* json) {
  if (bytes.empty()) return;
  if (at_value_start_ && bytes.front() == '\n') bytes.remove_prefix(1);
  at_value_start_ = false;
  if (streaming_) {
    Put(bytes, json);
    return;
  }
  raw_.append(bytes);
  if (!Streams()) return;
  streaming_ = true;
  *json += '"';
  Put(raw_, json);
  raw_.clear();
}

void ArgumentStream::Put(std::string_view bytes, std::string* json) {
  if (bytes.empty()) return;
  if (held_newline_) AppendJsonEscaped("\n", json);
  held_newline_ = bytes.back() == '\n';
  if (held_newline_) bytes.remove_suffix(1);
  AppendJsonEscaped(bytes, json);
}

void ArgumentStream::EndValue(std::string* json) {
  if (streaming_) {
    *json += '"';
    return;
  }
  std::string_view raw = raw_;
  if (raw.ends_with('\n')) raw.remove_suffix(1);
  *json += ArgumentJson(raw, type_);
}

}  // namespace deltaserve
