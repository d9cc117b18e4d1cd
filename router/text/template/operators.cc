#include "router/text/template/operators.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>

#include "kernels/base/status_macros.h"
#include "router/text/template/iterate.h"
#include "router/text/template/text.h"

namespace deltaserve::jinja {
namespace {

// -1, 0 or 1; nullopt where one is not a number (NaN). Exact, as Python compares.
std::optional<int> CompareNumbers(const Value& left, const Value& right) {
  const auto sign = [](auto a, auto b) { return a < b ? -1 : a > b ? 1 : 0; };
  if (left.IsIntegral() && right.IsIntegral()) return sign(left.int_value(), right.int_value());
  if (std::isnan(left.AsDouble()) || std::isnan(right.AsDouble())) return std::nullopt;
  if (left.Is(Type::kFloat) && right.Is(Type::kFloat)) {
    return sign(left.float_value(), right.float_value());
  }
  if (left.Is(Type::kFloat)) return -*CompareNumbers(right, left);
  const double other = right.float_value();
  if (std::abs(other) >= 0x1p126) return other > 0 ? -1 : 1;
  const int whole = sign(left.int_value(), static_cast<Int>(other));
  return whole != 0 ? whole : sign(0.0, other - std::trunc(other));
}

absl::StatusOr<bool> EqualImpl(Runtime* runtime, const Value& left, const Value& right);

absl::StatusOr<bool> EqualItems(Runtime* runtime,
                                const std::vector<Value>& left,
                                const std::vector<Value>& right) {
  if (left.size() != right.size()) return false;
  for (size_t i = 0; i < left.size(); ++i) {
    DS_ASSIGN_OR_RETURN(const bool is_equal, EqualImpl(runtime, left[i], right[i]));
    if (!is_equal) return false;
  }
  return true;
}

absl::StatusOr<bool> EqualDicts(Runtime* runtime, const DictObject& left, const DictObject& right) {
  if (left.entries.size() != right.entries.size()) return false;
  for (const auto& [key, value] : left.entries) {
    if (runtime != nullptr) DS_RETURN_IF_ERROR(CheckKey(*runtime, key));
    const Value* other = right.Find(key);
    if (other == nullptr) return false;
    DS_ASSIGN_OR_RETURN(const bool is_equal, EqualImpl(runtime, value, *other));
    if (!is_equal) return false;
  }
  return true;
}

bool EqualRanges(const RangeObject& left, const RangeObject& right) {
  const Int size = left.Size();
  if (size != right.Size()) return false;
  return size == 0 || (left.start == right.start && (size == 1 || left.step == right.step));
}

absl::StatusOr<bool> EqualImpl(Runtime* runtime, const Value& left, const Value& right) {
  if (runtime != nullptr) DS_RETURN_IF_ERROR(runtime->Step());
  if (left.IsNumber() && right.IsNumber()) {
    const std::optional<int> order = CompareNumbers(left, right);
    const bool is_same = left.object() != nullptr && left.object() == right.object();
    return is_same || order == 0;
  }
  if (left.type() != right.type()) return false;
  if (left.object() != nullptr && left.object() == right.object()) return true;
  switch (left.type()) {
    case Type::kUndefined:
    case Type::kNone:
      return true;
    case Type::kString:
      if (left.text().size() != right.text().size()) return false;
      if (runtime != nullptr) DS_RETURN_IF_ERROR(runtime->Work(left.text().size()));
      return left.text() == right.text();
    case Type::kList:
    case Type::kTuple:
      return EqualItems(runtime, left.items(), right.items());
    case Type::kDict:
      return EqualDicts(runtime, left.dict(), right.dict());
    case Type::kRange:
      return EqualRanges(left.range(), right.range());
    case Type::kMethod:
      return left.method().name == right.method().name &&
             left.method().self.object() == right.method().self.object();
    default:
      return false;
  }
}

std::string_view Symbol(CompareOp op) {
  switch (op) {
    case CompareOp::kLess:
      return "<";
    case CompareOp::kLessEqual:
      return "<=";
    case CompareOp::kGreater:
      return ">";
    default:
      return ">=";
  }
}

bool Holds(CompareOp op, int order) {
  switch (op) {
    case CompareOp::kLess:
      return order < 0;
    case CompareOp::kLessEqual:
      return order <= 0;
    case CompareOp::kGreater:
      return order > 0;
    default:
      return order >= 0;
  }
}

absl::StatusOr<bool> Ordered(Runtime& runtime,
                             CompareOp op,
                             const Value& left,
                             const Value& right) {
  DS_RETURN_IF_ERROR(runtime.Step());
  if (left.IsUndefined()) return UndefinedUse(left);
  if (right.IsUndefined()) return UndefinedUse(right);
  if (left.IsNumber() && right.IsNumber()) {
    const std::optional<int> order = CompareNumbers(left, right);
    return order.has_value() && Holds(op, *order);
  }
  if (left.IsString() && right.IsString()) {
    // The bytes of UTF-8 sort as its code points do.
    DS_RETURN_IF_ERROR(runtime.Work(std::min(left.text().size(), right.text().size())));
    return Holds(op, left.text().compare(right.text()));
  }
  if (left.IsSequence() && left.type() == right.type()) {
    const auto& a = left.items();
    const auto& b = right.items();
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
      DS_ASSIGN_OR_RETURN(const bool is_equal, Equals(runtime, a[i], b[i]));
      if (!is_equal) return Ordered(runtime, op, a[i], b[i]);
    }
    return Holds(op, a.size() < b.size() ? -1 : a.size() > b.size() ? 1 : 0);
  }
  return Wrong("'", Symbol(op), "' not supported between instances of '", TypeName(left), "' and '",
               TypeName(right), "'");
}

absl::StatusOr<bool> Contains(Runtime& runtime, const Value& container, const Value& item) {
  switch (container.type()) {
    case Type::kString:
      if (!item.IsString()) {
        return Wrong("'in <string>' requires string as left operand, not ", TypeName(item));
      }
      DS_RETURN_IF_ERROR(runtime.Work(container.text().size()));
      return FindText(container.text(), item.text()) != std::string::npos;
    case Type::kDict:
      DS_RETURN_IF_ERROR(CheckKey(runtime, item));
      return container.dict().Find(item) != nullptr;
    case Type::kDictView:
      if (container.dict_view().kind == DictViewObject::Kind::kKeys) {
        return Contains(runtime, container.dict_view().dict, item);
      }
      break;
    default:
      break;
  }
  absl::StatusOr<std::shared_ptr<Iterator>> iterator = MakeIterator(runtime, container);
  if (!iterator.ok()) {
    return Wrong("argument of type '", TypeName(container), "' is not iterable");
  }
  Value candidate;
  while (true) {
    DS_ASSIGN_OR_RETURN(const bool has_next, (*iterator)->Next(runtime, &candidate));
    if (!has_next) return false;
    DS_ASSIGN_OR_RETURN(const bool is_equal, Equals(runtime, candidate, item));
    if (is_equal) return true;
  }
}

}  // namespace

absl::Status UndefinedUse(const Value& undefined) { return Wrong(undefined.undefined_message()); }

size_t FindText(std::string_view text, std::string_view needle, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (needle.empty()) return from;
  const void* found = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

absl::StatusOr<bool> Equals(Runtime& runtime, const Value& left, const Value& right) {
  return EqualImpl(&runtime, left, right);
}

bool Equal(const Value& left, const Value& right) {
  const absl::StatusOr<bool> is_equal = EqualImpl(nullptr, left, right);
  return is_equal.ok() && *is_equal;
}

absl::Status CheckKey(Runtime& runtime, const Value& key) {
  DS_RETURN_IF_ERROR(runtime.Step());
  switch (key.type()) {
    case Type::kList:
    case Type::kDict:
    case Type::kDictView:
      return Wrong("unhashable type: '", TypeName(key), "'");
    case Type::kTuple:
      for (const Value& item : key.items()) DS_RETURN_IF_ERROR(CheckKey(runtime, item));
      return absl::OkStatus();
    case Type::kString:
      return runtime.Work(key.text().size());
    default:
      return absl::OkStatus();
  }
}

absl::StatusOr<bool> Compare(Runtime& runtime,
                             CompareOp op,
                             const Value& left,
                             const Value& right) {
  switch (op) {
    case CompareOp::kEqual:
      return Equals(runtime, left, right);
    case CompareOp::kNotEqual: {
      DS_ASSIGN_OR_RETURN(const bool is_equal, Equals(runtime, left, right));
      return !is_equal;
    }
    case CompareOp::kIn:
      return Contains(runtime, right, left);
    case CompareOp::kNotIn: {
      DS_ASSIGN_OR_RETURN(const bool is_inside, Contains(runtime, right, left));
      return !is_inside;
    }
    default:
      return Ordered(runtime, op, left, right);
  }
}

absl::Status SortByKeys(Runtime& runtime,
                        const std::vector<Value>& keys,
                        bool is_reverse,
                        std::vector<Value>* items) {
  std::vector<size_t> order(items->size());
  std::iota(order.begin(), order.end(), size_t{0});
  if (is_reverse) std::reverse(order.begin(), order.end());
  absl::Status status;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (!status.ok()) return false;
    const absl::StatusOr<bool> is_less = Ordered(runtime, CompareOp::kLess, keys[a], keys[b]);
    if (!is_less.ok()) status = is_less.status();
    return is_less.ok() && *is_less;
  });
  DS_RETURN_IF_ERROR(status);
  if (is_reverse) std::reverse(order.begin(), order.end());
  std::vector<Value> sorted;
  sorted.reserve(order.size());
  for (const size_t index : order) sorted.push_back((*items)[index]);
  *items = std::move(sorted);
  return absl::OkStatus();
}

}  // namespace deltaserve::jinja
