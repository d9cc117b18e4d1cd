#pragma once

// Walking through values as Python's iter() does.

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "router/text/template/runtime.h"
#include "router/text/template/value.h"

namespace deltaserve::jinja {

// InvalidArgument where the value is not iterable. An undefined value has no items.
absl::StatusOr<std::shared_ptr<Iterator>> MakeIterator(Runtime& runtime, const Value& value);

// reversed(value): InvalidArgument where Python cannot.
absl::StatusOr<std::shared_ptr<Iterator>> MakeReversed(Runtime& runtime, const Value& value);

// True where MakeIterator would succeed.
bool IsIterable(const Value& value);

// Every item of `value`. Errors: as MakeIterator and the iterator; ResourceExhausted.
absl::StatusOr<std::vector<Value>> Collect(Runtime& runtime, const Value& value);

// len(value): InvalidArgument where Python has none.
absl::StatusOr<Int> Length(const Value& value);

// An iterator of Python's type `name` over items that are already there.
std::shared_ptr<Iterator> IterateItems(std::vector<Value> items, std::string_view name);

// A generator that asks `next` for each item; false ends it.
using NextItem = std::function<absl::StatusOr<bool>(Runtime& runtime, Value* item)>;
std::shared_ptr<Iterator> IterateFunction(NextItem next);

}  // namespace deltaserve::jinja
