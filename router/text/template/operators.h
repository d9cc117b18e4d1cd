#pragma once

// Python's operators on template values.

#include "absl/status/statusor.h"
#include "router/text/template/runtime.h"
#include "router/text/template/value.h"

namespace deltaserve::jinja {

enum class BinaryOp : uint8_t { kAdd, kSub, kMul, kDiv, kFloorDiv, kMod, kPow };
enum class CompareOp : uint8_t {
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn
};

// Errors of all: InvalidArgument where Python would raise, OutOfRange for an integer beyond 127
// bits, ResourceExhausted past a limit.
absl::StatusOr<Value> Binary(Runtime& runtime, BinaryOp op, const Value& left, const Value& right);
absl::StatusOr<Value> Negative(const Value& value);
absl::StatusOr<Value> Positive(const Value& value);
absl::StatusOr<bool> Compare(Runtime& runtime, CompareOp op, const Value& left, const Value& right);

absl::StatusOr<bool> Equals(Runtime& runtime, const Value& left, const Value& right);
// The same for dict keys, whose cost CheckKey has counted.
bool Equal(const Value& left, const Value& right);
// InvalidArgument unless `key` is hashable.
absl::Status CheckKey(Runtime& runtime, const Value& key);

// Sorts by Python's `<` of the keys, stably; `items[i]` goes with `keys[i]`.
absl::Status SortByKeys(Runtime& runtime,
                        const std::vector<Value>& keys,
                        bool is_reverse,
                        std::vector<Value>* items);

// The first place of `needle` in `text` from byte `from` on; npos where there is none. Linear time.
size_t FindText(std::string_view text, std::string_view needle, size_t from = 0);

// InvalidArgument with what an undefined value says.
absl::Status UndefinedUse(const Value& undefined);

}  // namespace deltaserve::jinja
