#pragma once

// What `loop` is inside a for: the iteration and what stands around it.

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "router/text/template/runtime.h"
#include "router/text/template/value.h"

namespace deltaserve::jinja {

class LoopObject : public Object {
 public:
  // `iterator` walks through `iterable`, whose length may be known.
  LoopObject(const Value& iterable, std::shared_ptr<Iterator> iterator)
      : iterable_(iterable), iterator_(std::move(iterator)) {}

  // The next item; false at the end.
  absl::StatusOr<bool> Advance(Runtime& runtime, Value* item);

  // Sets `*value` to loop.`name`; false where there is no such attribute. The methods cycle and
  // changed are made by the caller.
  absl::StatusOr<bool> Attribute(Runtime& runtime, std::string_view name, Value* value);

  absl::StatusOr<Value> Cycle(const Arguments& arguments) const;
  absl::StatusOr<Value> Changed(Runtime& runtime, const Arguments& arguments);

  absl::StatusOr<Int> Length(Runtime& runtime);
  // The loop is over: lets go of all items. What the template still holds of it knows the numbers.
  void Leave();
  Int index() const { return index0_ + 1; }

 private:
  absl::StatusOr<bool> Peek(Runtime& runtime);

  Value iterable_;
  std::shared_ptr<Iterator> iterator_;
  Int index0_ = -1;
  std::optional<Int> length_;
  Value before_;
  Value current_;
  Value after_;
  bool has_after_ = false;
  std::optional<std::vector<Value>> last_changed_;
};

}  // namespace deltaserve::jinja
