#pragma once

// The methods of str that cut it into several.

#include <string_view>

#include "absl/status/statusor.h"
#include "router/text/template/runtime.h"
#include "router/text/template/value.h"

namespace deltaserve::jinja {

// str.split, rsplit, splitlines, partition and rpartition. Errors as CallMethod.
absl::StatusOr<Value> Split(Runtime& runtime, const Value& self, const Arguments& arguments);
absl::StatusOr<Value> RightSplit(Runtime& runtime, const Value& self, const Arguments& arguments);
absl::StatusOr<Value> LinesSplit(Runtime& runtime, const Value& self, const Arguments& arguments);
absl::StatusOr<Value> Partition(Runtime& runtime, const Value& self, const Arguments& arguments);
absl::StatusOr<Value> RightPartition(Runtime& runtime,
                                     const Value& self,
                                     const Arguments& arguments);

// Counts the steps of a search from the right, which is slow where the needle almost matches often.
absl::Status WorkOfLastFind(Runtime& runtime, std::string_view text, std::string_view needle);

}  // namespace deltaserve::jinja
