// Filters of numbers (filter_functions.h).

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "kernels/base/status_macros.h"
#include "router/text/template/arguments.h"
#include "router/text/template/filter_functions.h"
#include "router/text/template/format_number.h"
#include "router/text/template/iterate.h"
#include "router/text/template/lookups.h"
#include "router/text/template/operators.h"

namespace deltaserve::jinja {
namespace {

using Bound = std::vector<Value>;

// Reading a number copies the text as code points and as digits.
absl::Status CheckNumberRoom(Runtime& runtime, const std::string& text) {
  DS_RETURN_IF_ERROR(runtime.Work(text.size() * 16));
  return runtime.CheckRoom(text.size() * 8);
}

// The item whose key is least (or most), the first of several.
absl::StatusOr<Value> Extreme(Runtime& runtime,
                              const Value& value,
                              const Arguments& arguments,
                              CompareOp op) {
  DS_ASSIGN_OR_RETURN(const Bound bound,
                      Bind("min", arguments, {"case_sensitive", "attribute"}, 0));
  std::vector<Value> path;
  DS_ASSIGN_OR_RETURN(path, ParseAttributePath(runtime, bound[1]));
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<Iterator> items, MakeIterator(runtime, value));
  Value best;
  Value best_key;
  Value item;
  while (true) {
    DS_ASSIGN_OR_RETURN(const bool has_next, items->Next(runtime, &item));
    if (!has_next) break;
    DS_ASSIGN_OR_RETURN(const Value part, FollowPath(runtime, item, path));
    DS_ASSIGN_OR_RETURN(const Value key, SortKey(runtime, part, Truth(bound[0])));
    bool is_better = best.IsMissing();
    if (!is_better) {
      DS_ASSIGN_OR_RETURN(is_better, Compare(runtime, op, key, best_key));
    }
    if (is_better) {
      best = item;
      best_key = key;
    }
  }
  return best.IsMissing() ? Value::Undefined("No aggregated item, sequence was empty.") : best;
}

}  // namespace

absl::StatusOr<Value> MinFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  return Extreme(runtime, value, arguments, CompareOp::kLess);
}
absl::StatusOr<Value> MaxFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  return Extreme(runtime, value, arguments, CompareOp::kGreater);
}

absl::StatusOr<Value> AbsFilter(Runtime&, const Value& value, const Arguments& arguments) {
  DS_RETURN_IF_ERROR(Bind("abs", arguments, {}, 0).status());
  if (value.IsUndefined()) return UndefinedUse(value);
  if (value.Is(Type::kFloat)) return Value::Float(std::abs(value.float_value()));
  if (!value.IsIntegral()) return Wrong("bad operand type for abs(): '", TypeName(value), "'");
  return value.int_value() < 0 ? Negative(value) : Positive(value);
}

absl::StatusOr<Value> IntFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound, Bind("int", arguments, {"default", "base"}, 0));
  const Value otherwise = bound[0].IsMissing() ? Value::Integer(0) : bound[0];
  if (value.IsUndefined()) return UndefinedUse(value);
  if (value.IsIntegral()) return Value::Integer(value.int_value());
  if (value.Is(Type::kFloat)) {
    if (std::isnan(value.float_value())) return otherwise;
    if (std::isinf(value.float_value())) return Wrong("cannot convert float infinity to integer");
    DS_ASSIGN_OR_RETURN(const Int whole, TruncateToInt(value.float_value()));
    return Value::Integer(whole);
  }
  if (!value.IsString()) return otherwise;
  DS_RETURN_IF_ERROR(CheckNumberRoom(runtime, value.text()));
  DS_ASSIGN_OR_RETURN(const Int base, IntArgument("int", bound[1], 10));
  const bool is_base = base == 0 || (base >= 2 && base <= 36);
  if (is_base) {
    DS_ASSIGN_OR_RETURN(const std::optional<Int> whole,
                        ParseInt(value.text(), static_cast<int>(base)));
    if (whole.has_value()) return Value::Integer(*whole);
  }
  const std::optional<double> number = ParseFloat(value.text());
  if (!number.has_value() || !std::isfinite(*number)) return otherwise;
  DS_ASSIGN_OR_RETURN(const Int whole, TruncateToInt(*number));
  return Value::Integer(whole);
}

absl::StatusOr<Value> FloatFilter(Runtime& runtime,
                                  const Value& value,
                                  const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound, Bind("float", arguments, {"default"}, 0));
  const Value otherwise = bound[0].IsMissing() ? Value::Float(0) : bound[0];
  if (value.IsUndefined()) return UndefinedUse(value);
  if (value.IsNumber()) return Value::Float(value.AsDouble());
  if (!value.IsString()) return otherwise;
  DS_RETURN_IF_ERROR(CheckNumberRoom(runtime, value.text()));
  const std::optional<double> number = ParseFloat(value.text());
  return number.has_value() ? Value::Float(*number) : otherwise;
}

absl::StatusOr<Value> RoundFilter(Runtime& runtime,
                                  const Value& value,
                                  const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound, Bind("round", arguments, {"precision", "method"}, 0));
  const std::string method = bound[1].IsString()    ? bound[1].text()
                             : bound[1].IsMissing() ? "common"
                                                    : "";
  if (method != "common" && method != "ceil" && method != "floor") {
    return Wrong("method must be common, ceil or floor");
  }
  if (value.IsUndefined()) return UndefinedUse(value);
  if (!value.IsNumber()) return Wrong("type ", TypeName(value), " doesn't define __round__ method");
  DS_ASSIGN_OR_RETURN(const Int precision, IntArgument("round", bound[0], 0, method == "common"));
  if (method == "common") {
    if (value.IsIntegral()) {
      if (precision >= 0) return Value::Integer(value.int_value());
      return Wrong("round of an integer to tens is not supported; use a float");
    }
    if (bound[0].IsNone()) {
      if (!std::isfinite(value.float_value())) {
        return Wrong("cannot convert float ", FloatText(value.float_value()), " to integer");
      }
      DS_ASSIGN_OR_RETURN(const Int whole, TruncateToInt(RoundDecimal(value.float_value(), 0)));
      return Value::Integer(whole);
    }
    const Int digits = std::clamp<Int>(precision, -400, 400);
    return Value::Float(RoundDecimal(value.float_value(), static_cast<int>(digits)));
  }
  DS_ASSIGN_OR_RETURN(const Value scale, Binary(runtime, BinaryOp::kPow, Value::Integer(10),
                                                Value::Integer(precision)));
  DS_ASSIGN_OR_RETURN(const Value scaled, Binary(runtime, BinaryOp::kMul, value, scale));
  Value whole = scaled;
  if (scaled.Is(Type::kFloat)) {
    const double number = scaled.float_value();
    if (!std::isfinite(number)) {
      return Wrong("cannot convert float ", FloatText(number), " to integer");
    }
    DS_ASSIGN_OR_RETURN(const Int rounded,
                        TruncateToInt(method == "ceil" ? std::ceil(number) : std::floor(number)));
    whole = Value::Integer(rounded);
  }
  return Binary(runtime, BinaryOp::kDiv, whole, scale);
}

absl::StatusOr<Value> SumFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound, Bind("sum", arguments, {"attribute", "start"}, 0));
  std::vector<Value> path;
  DS_ASSIGN_OR_RETURN(path, ParseAttributePath(runtime, bound[0]));
  Value sum = bound[1].IsMissing() ? Value::Integer(0) : bound[1];
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<Iterator> items, MakeIterator(runtime, value));
  if (sum.IsString()) return Wrong("sum() can't sum strings [use ''.join(seq) instead]");
  Value item;
  while (true) {
    DS_ASSIGN_OR_RETURN(const bool has_next, items->Next(runtime, &item));
    if (!has_next) return sum;
    DS_ASSIGN_OR_RETURN(const Value part, FollowPath(runtime, item, path));
    DS_ASSIGN_OR_RETURN(sum, Binary(runtime, BinaryOp::kAdd, sum, part));
  }
}

}  // namespace deltaserve::jinja
