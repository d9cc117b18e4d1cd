#pragma once

// x.name, x[key] and x[a:b] as jinja2's immutable sandbox answers them.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "router/text/template/runtime.h"
#include "router/text/template/value.h"

namespace deltaserve::jinja {

// x.name: an attribute (a method, say) before a key. Undefined where there is neither, and for what
// the sandbox refuses. Errors: InvalidArgument where `object` is undefined.
absl::StatusOr<Value> GetAttribute(Runtime& runtime, const Value& object, const std::string& name);

// x[key]: a key or index before an attribute. Errors as GetAttribute.
absl::StatusOr<Value> GetItem(Runtime& runtime, const Value& object, const Value& key);

// The attribute alone, as the filter attr asks for it.
absl::StatusOr<Value> GetAttributeOnly(Runtime& runtime,
                                       const Value& object,
                                       const std::string& name);

// x[start:stop:step]; missing and None are left out. Errors: InvalidArgument.
absl::StatusOr<Value> GetSlice(Runtime& runtime,
                               const Value& object,
                               const Value& start,
                               const Value& stop,
                               const Value& step);

// The places of a slice: `count` of them, from `first` on, `step` apart.
struct SlicePlaces {
  Int first = 0;
  Int count = 0;
  Int step = 1;
};
absl::StatusOr<SlicePlaces> PlacesOf(Int size,
                                     const Value& start,
                                     const Value& stop,
                                     const Value& step);

// What filters mean by attribute="a.b.0": item lookups one after another.
// Errors: ResourceExhausted.
absl::StatusOr<std::vector<Value>> ParseAttributePath(Runtime& runtime, const Value& attribute);
absl::StatusOr<Value> FollowPath(Runtime& runtime,
                                 const Value& object,
                                 const std::vector<Value>& path,
                                 const Value& otherwise = Value());

}  // namespace deltaserve::jinja
