#include "router/text/template/loop.h"

#include <utility>

#include "kernels/base/status_macros.h"
#include "router/text/template/iterate.h"
#include "router/text/template/operators.h"

namespace deltaserve::jinja {

absl::StatusOr<bool> LoopObject::Peek(Runtime& runtime) {
  if (!has_after_) {
    DS_ASSIGN_OR_RETURN(has_after_, iterator_->Next(runtime, &after_));
  }
  return has_after_;
}

absl::StatusOr<bool> LoopObject::Advance(Runtime& runtime, Value* item) {
  DS_ASSIGN_OR_RETURN(const bool has_next, Peek(runtime));
  if (!has_next) return false;
  has_after_ = false;
  ++index0_;
  before_ = std::exchange(current_, std::exchange(after_, Value()));
  *item = current_;
  return true;
}

absl::StatusOr<Int> LoopObject::Length(Runtime& runtime) {
  if (length_.has_value()) return *length_;
  const absl::StatusOr<Int> known = jinja::Length(iterable_);
  if (known.ok()) {
    length_ = *known;
    return *known;
  }
  // A generator: what is left of it is read now.
  std::vector<Value> rest;
  Value item;
  while (true) {
    DS_ASSIGN_OR_RETURN(const bool has_next, iterator_->Next(runtime, &item));
    if (!has_next) break;
    DS_RETURN_IF_ERROR(runtime.CheckRoom(rest.size() * 3 * sizeof(Value)));
    rest.push_back(item);
  }
  length_ = static_cast<Int>(rest.size()) + index() + (has_after_ ? 1 : 0);
  DS_ASSIGN_OR_RETURN(const Value list, runtime.List(std::move(rest)));
  DS_ASSIGN_OR_RETURN(iterator_, MakeIterator(runtime, list));
  return *length_;
}

void LoopObject::Leave() {
  if (const absl::StatusOr<Int> known = jinja::Length(iterable_); known.ok()) length_ = *known;
  if (!length_.has_value()) length_ = index() + (has_after_ ? 1 : 0);
  iterable_ = before_ = current_ = after_ = Value();
  iterator_ = IterateItems({}, "list_iterator");
  has_after_ = false;
  last_changed_.reset();
}

absl::StatusOr<bool> LoopObject::Attribute(Runtime& runtime, std::string_view name, Value* value) {
  if (name == "index0") {
    *value = Value::Integer(index0_);
  } else if (name == "index") {
    *value = Value::Integer(index());
  } else if (name == "first") {
    *value = Value::Bool(index0_ == 0);
  } else if (name == "last") {
    DS_ASSIGN_OR_RETURN(const bool has_next, Peek(runtime));
    *value = Value::Bool(!has_next);
  } else if (name == "length" || name == "revindex" || name == "revindex0") {
    DS_ASSIGN_OR_RETURN(const Int length, Length(runtime));
    *value = Value::Integer(name == "length"     ? length
                            : name == "revindex" ? length - index0_
                                                 : length - index());
  } else if (name == "previtem") {
    *value = before_.IsMissing() ? Value::Undefined("there is no previous item") : before_;
  } else if (name == "nextitem") {
    DS_ASSIGN_OR_RETURN(const bool has_next, Peek(runtime));
    *value = has_next ? after_ : Value::Undefined("there is no next item");
  } else if (name == "depth" || name == "depth0") {
    *value = Value::Integer(name == "depth" ? 1 : 0);
  } else {
    return false;
  }
  return true;
}

absl::StatusOr<Value> LoopObject::Cycle(const Arguments& arguments) const {
  if (!arguments.keywords.empty()) return Wrong("loop.cycle() takes no keyword arguments");
  if (arguments.positional.empty()) return Wrong("no items for cycling given");
  const auto size = static_cast<Int>(arguments.positional.size());
  return arguments.positional[static_cast<size_t>(index0_ % size)];
}

absl::StatusOr<Value> LoopObject::Changed(Runtime& runtime, const Arguments& arguments) {
  if (!arguments.keywords.empty()) return Wrong("loop.changed() takes no keyword arguments");
  bool is_same = last_changed_.has_value() && last_changed_->size() == arguments.positional.size();
  for (size_t i = 0; is_same && i < arguments.positional.size(); ++i) {
    DS_ASSIGN_OR_RETURN(is_same, Equals(runtime, (*last_changed_)[i], arguments.positional[i]));
  }
  last_changed_ = arguments.positional;
  return Value::Bool(!is_same);
}

}  // namespace deltaserve::jinja
