// The operators that make a value (operators.h): + - * / // % ** and signs.

#include <cmath>

#include "kernels/base/status_macros.h"
#include "router/text/template/operators.h"
#include "router/text/template/string_format.h"
#include "router/text/template/text.h"

namespace deltaserve::jinja {
namespace {

constexpr Int kExactInDouble = Int{1} << 53;  // every integer up to here is a double

// Negation and absolute value stay in range: -2**127 is left out.
constexpr Int kLeast = -(((Int{1} << 126) - 1) * 2 + 1);

absl::Status TooLarge() {
  return absl::OutOfRangeError("an integer beyond 127 bits is not supported; use smaller numbers");
}

absl::Status DivisionByZero() { return Wrong("division by zero"); }

std::string_view Symbol(BinaryOp op) {
  switch (op) {
    case BinaryOp::kAdd:
      return "+";
    case BinaryOp::kSub:
      return "-";
    case BinaryOp::kMul:
      return "*";
    case BinaryOp::kDiv:
      return "/";
    case BinaryOp::kFloorDiv:
      return "//";
    case BinaryOp::kMod:
      return "%";
    case BinaryOp::kPow:
      return "** or pow()";
  }
  return "?";
}

absl::StatusOr<Value> Bounded(Int value) {
  if (value < kLeast) return TooLarge();
  return Value::Integer(value);
}

absl::StatusOr<Value> IntPower(Int base, Int exponent) {
  Int result = 1;
  while (true) {
    if (exponent % 2 == 1 && __builtin_mul_overflow(result, base, &result)) return TooLarge();
    exponent /= 2;
    if (exponent == 0) return Bounded(result);
    if (__builtin_mul_overflow(base, base, &base)) return TooLarge();
  }
}

absl::StatusOr<Value> FloatPower(double base, double exponent) {
  if (base == 0 && exponent < 0) return Wrong("0.0 cannot be raised to a negative power");
  if (base < 0 && std::isfinite(base) && std::isfinite(exponent) &&
      exponent != std::floor(exponent)) {
    return Wrong("a negative number to a fractional power is complex, which is not supported");
  }
  const double result = std::pow(base, exponent);
  if (std::isinf(result) && std::isfinite(base) && std::isfinite(exponent)) {
    return Wrong("(34, 'Numerical result out of range')");
  }
  return Value::Float(result);
}

absl::StatusOr<Value> Integers(BinaryOp op, Int a, Int b) {
  Int result = 0;
  switch (op) {
    case BinaryOp::kAdd:
      if (__builtin_add_overflow(a, b, &result)) return TooLarge();
      return Bounded(result);
    case BinaryOp::kSub:
      if (__builtin_sub_overflow(a, b, &result)) return TooLarge();
      return Bounded(result);
    case BinaryOp::kMul:
      if (__builtin_mul_overflow(a, b, &result)) return TooLarge();
      return Bounded(result);
    case BinaryOp::kDiv:
      if (b == 0) return DivisionByZero();
      if (a > kExactInDouble || a < -kExactInDouble || b > kExactInDouble || b < -kExactInDouble) {
        return absl::OutOfRangeError("'/' of an integer beyond 2**53 is not supported; use '//'");
      }
      return Value::Float(static_cast<double>(a) / static_cast<double>(b));
    case BinaryOp::kFloorDiv:
    case BinaryOp::kMod: {
      if (b == 0) return DivisionByZero();
      if (b == -1) return op == BinaryOp::kMod ? Value::Integer(0) : Negative(Value::Integer(a));
      const bool is_below = a % b != 0 && (a % b < 0) != (b < 0);
      if (op == BinaryOp::kFloorDiv) return Value::Integer(a / b - (is_below ? 1 : 0));
      return Value::Integer(a % b + (is_below ? b : 0));
    }
    case BinaryOp::kPow:
      if (b < 0) return FloatPower(static_cast<double>(a), static_cast<double>(b));
      return IntPower(a, b);
  }
  return TooLarge();
}

// Python's float divmod: the remainder has the sign of `b`.
absl::StatusOr<Value> FloatDivision(BinaryOp op, double a, double b) {
  if (b == 0) return DivisionByZero();
  double remainder = std::fmod(a, b);
  double quotient = (a - remainder) / b;
  if (remainder != 0) {
    if ((b < 0) != (remainder < 0)) {
      remainder += b;
      quotient -= 1;
    }
  } else {
    remainder = std::copysign(0.0, b);
  }
  if (op == BinaryOp::kMod) return Value::Float(remainder);
  if (quotient == 0) return Value::Float(std::copysign(0.0, a / b));
  const double floor = std::floor(quotient);
  return Value::Float(quotient - floor > 0.5 ? floor + 1 : floor);
}

absl::StatusOr<Value> Floats(BinaryOp op, double a, double b) {
  switch (op) {
    case BinaryOp::kAdd:
      return Value::Float(a + b);
    case BinaryOp::kSub:
      return Value::Float(a - b);
    case BinaryOp::kMul:
      return Value::Float(a * b);
    case BinaryOp::kDiv:
      if (b == 0) return DivisionByZero();
      return Value::Float(a / b);
    case BinaryOp::kFloorDiv:
    case BinaryOp::kMod:
      return FloatDivision(op, a, b);
    case BinaryOp::kPow:
      return FloatPower(a, b);
  }
  return DivisionByZero();
}

absl::StatusOr<Value> JoinStrings(Runtime& runtime, const Value& left, const Value& right) {
  const bool is_safe = left.IsSafe() || right.IsSafe();
  const auto text = [&](const Value& value) {
    return is_safe && !value.IsSafe() ? EscapeHtml(value.text()) : value.text();
  };
  const size_t growth = is_safe ? kMostEscaped : 1;
  DS_RETURN_IF_ERROR(runtime.CheckRoom(growth * (left.text().size() + right.text().size())));
  return runtime.String(text(left) + text(right), is_safe);
}

absl::StatusOr<Value> JoinItems(Runtime& runtime, const Value& left, const Value& right) {
  const size_t size = left.items().size() + right.items().size();
  DS_RETURN_IF_ERROR(runtime.Step(static_cast<int64_t>(size)));
  DS_RETURN_IF_ERROR(runtime.CheckRoom(size * sizeof(Value)));
  std::vector<Value> items;
  items.reserve(size);
  items.insert(items.end(), left.items().begin(), left.items().end());
  items.insert(items.end(), right.items().begin(), right.items().end());
  return left.Is(Type::kList) ? runtime.List(std::move(items)) : runtime.Tuple(std::move(items));
}

absl::StatusOr<Value> Repeat(Runtime& runtime, const Value& value, Int times) {
  const size_t size = value.IsString() ? value.text().size() : value.items().size() * sizeof(Value);
  if (times < 0 || size == 0) times = 0;
  size_t bytes = 0;
  if (times > INT64_MAX || __builtin_mul_overflow(size, static_cast<size_t>(times), &bytes)) {
    bytes = SIZE_MAX;
  }
  DS_RETURN_IF_ERROR(runtime.CheckRoom(bytes));
  DS_RETURN_IF_ERROR(runtime.Work(bytes));
  const auto count = static_cast<size_t>(times);
  if (value.IsString()) {
    std::string text;
    text.reserve(bytes);
    for (size_t i = 0; i < count; ++i) text += value.text();
    return runtime.String(std::move(text), value.IsSafe());
  }
  std::vector<Value> items;
  items.reserve(bytes / sizeof(Value));
  for (size_t i = 0; i < count; ++i) {
    items.insert(items.end(), value.items().begin(), value.items().end());
  }
  return value.Is(Type::kList) ? runtime.List(std::move(items)) : runtime.Tuple(std::move(items));
}

}  // namespace

absl::StatusOr<Value> Binary(Runtime& runtime, BinaryOp op, const Value& left, const Value& right) {
  if (op == BinaryOp::kMod && left.IsString()) {
    // str.__mod__ comes before Undefined.__rmod__: '%s' takes an undefined value as text.
    return FormatPercent(runtime, left, right);
  }
  if (left.IsUndefined()) return UndefinedUse(left);
  if (right.IsUndefined()) return UndefinedUse(right);
  if (left.IsIntegral() && right.IsIntegral()) {
    return Integers(op, left.int_value(), right.int_value());
  }
  if (left.IsNumber() && right.IsNumber()) return Floats(op, left.AsDouble(), right.AsDouble());
  const auto repeats = [](const Value& value) { return value.IsString() || value.IsSequence(); };
  if (op == BinaryOp::kAdd) {
    if (left.IsString() && right.IsString()) return JoinStrings(runtime, left, right);
    if (left.IsSequence() && left.type() == right.type()) return JoinItems(runtime, left, right);
  } else if (op == BinaryOp::kMul) {
    if (repeats(left) && right.IsIntegral()) return Repeat(runtime, left, right.int_value());
    if (left.IsIntegral() && repeats(right)) return Repeat(runtime, right, left.int_value());
  }
  return Wrong("unsupported operand type(s) for ", Symbol(op), ": '", TypeName(left), "' and '",
               TypeName(right), "'");
}

absl::StatusOr<Value> Negative(const Value& value) {
  if (value.IsUndefined()) return UndefinedUse(value);
  if (value.Is(Type::kFloat)) return Value::Float(-value.float_value());
  if (!value.IsIntegral()) return Wrong("bad operand type for unary -: '", TypeName(value), "'");
  Int result = 0;
  if (__builtin_sub_overflow(Int{0}, value.int_value(), &result)) return TooLarge();
  return Value::Integer(result);
}

absl::StatusOr<Value> Positive(const Value& value) {
  if (value.IsUndefined()) return UndefinedUse(value);
  if (value.Is(Type::kFloat)) return value;
  if (!value.IsIntegral()) return Wrong("bad operand type for unary +: '", TypeName(value), "'");
  return Value::Integer(value.int_value());
}

}  // namespace deltaserve::jinja
