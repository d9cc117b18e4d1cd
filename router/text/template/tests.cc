#include "router/text/template/tests.h"

#include <algorithm>
#include <unordered_map>

#include "kernels/base/status_macros.h"
#include "router/text/template/arguments.h"
#include "router/text/template/filters.h"
#include "router/text/template/iterate.h"
#include "router/text/template/operators.h"
#include "router/text/template/repr.h"
#include "router/text/template/string_parts.h"
#include "router/text/template/text.h"

namespace deltaserve::jinja {
namespace {

absl::Status ExpectNoArguments(const Arguments& arguments) {
  return Bind("the test", arguments, {}, 0).status();
}

// A test of the value alone.
template <bool (*kHolds)(const Value&)>
absl::StatusOr<bool> Simple(Runtime&, const Value& value, const Arguments& arguments) {
  DS_RETURN_IF_ERROR(ExpectNoArguments(arguments));
  return kHolds(value);
}

bool IsDefined(const Value& value) { return !value.IsUndefined(); }
bool IsUndefined(const Value& value) { return value.IsUndefined(); }
bool IsNone(const Value& value) { return value.IsNone(); }
bool IsBoolean(const Value& value) { return value.Is(Type::kBool); }
bool IsTrue(const Value& value) { return value.Is(Type::kBool) && value.bool_value(); }
bool IsFalse(const Value& value) { return value.Is(Type::kBool) && !value.bool_value(); }
bool IsInteger(const Value& value) { return value.Is(Type::kInt); }
bool IsFloat(const Value& value) { return value.Is(Type::kFloat); }
bool IsNumber(const Value& value) { return value.IsNumber(); }
bool IsString(const Value& value) { return value.IsString(); }
bool IsMapping(const Value& value) { return value.Is(Type::kDict); }
bool IsEscaped(const Value& value) { return value.IsSafe(); }

bool IsSequence(const Value& value) {
  switch (value.type()) {
    case Type::kUndefined:
    case Type::kString:
    case Type::kList:
    case Type::kTuple:
    case Type::kDict:
    case Type::kRange:
      return true;
    default:
      return false;
  }
}

bool IsCallable(const Value& value) {
  switch (value.type()) {
    case Type::kUndefined:
    case Type::kFunction:
    case Type::kMethod:
    case Type::kMacro:
    case Type::kLoop:
      return true;
    default:
      return false;
  }
}

template <CompareOp kOp>
absl::StatusOr<bool> Compared(Runtime& runtime, const Value& value, const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("the test", arguments, {""}, 1));
  return Compare(runtime, kOp, value, bound[0]);
}

absl::StatusOr<bool> In(Runtime& runtime, const Value& value, const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("in", arguments, {"seq"}, 1));
  return Compare(runtime, CompareOp::kIn, value, bound[0]);
}

absl::StatusOr<bool> Divides(Runtime& runtime,
                             const Value& value,
                             const Value& by,
                             const Value& remainder) {
  DS_ASSIGN_OR_RETURN(const Value rest, Binary(runtime, BinaryOp::kMod, value, by));
  return Equals(runtime, rest, remainder);
}

template <int kRest>
absl::StatusOr<bool> Parity(Runtime& runtime, const Value& value, const Arguments& arguments) {
  DS_RETURN_IF_ERROR(ExpectNoArguments(arguments));
  return Divides(runtime, value, Value::Integer(2), Value::Integer(kRest));
}

absl::StatusOr<bool> DivisibleBy(Runtime& runtime, const Value& value, const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("divisibleby", arguments, {"num"}, 1));
  return Divides(runtime, value, bound[0], Value::Integer(0));
}

template <bool (*kIs)(char32_t), bool (*kIsOther)(char32_t)>
absl::StatusOr<bool> InCase(Runtime& runtime, const Value& value, const Arguments& arguments) {
  DS_RETURN_IF_ERROR(ExpectNoArguments(arguments));
  DS_ASSIGN_OR_RETURN(const std::string text, Text(runtime, value));
  std::u32string points;
  DS_ASSIGN_OR_RETURN(points, CodePoints(runtime, text));
  const bool has_other = std::any_of(points.begin(), points.end(),
                                     [](char32_t c) { return kIsOther(c) || IsTitle(c); });
  return !has_other && std::any_of(points.begin(), points.end(), kIs);
}

absl::StatusOr<bool> SameAs(Runtime&, const Value& value, const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("sameas", arguments, {"other"}, 1));
  const Value& other = bound[0];
  if (value.type() != other.type()) return false;
  if (value.object() != nullptr || other.object() != nullptr) {
    return value.object() == other.object();
  }
  return Equal(value, other);
}

absl::StatusOr<bool> IsIterableTest(Runtime&, const Value& value, const Arguments& arguments) {
  DS_RETURN_IF_ERROR(ExpectNoArguments(arguments));
  return IsIterable(value);
}

absl::StatusOr<bool> IsFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  DS_RETURN_IF_ERROR(ExpectNoArguments(arguments));
  DS_RETURN_IF_ERROR(CheckKey(runtime, value));
  return value.IsString() && FindFilter(value.text()) != nullptr;
}

absl::StatusOr<bool> IsTest(Runtime& runtime, const Value& value, const Arguments& arguments) {
  DS_RETURN_IF_ERROR(ExpectNoArguments(arguments));
  DS_RETURN_IF_ERROR(CheckKey(runtime, value));
  return value.IsString() && FindTest(value.text()) != nullptr;
}

}  // namespace

TestFunction FindTest(std::string_view name) {
  static const auto* const kTests = new std::unordered_map<std::string_view, TestFunction>{
      {"odd", Parity<1>},
      {"even", Parity<0>},
      {"divisibleby", DivisibleBy},
      {"defined", Simple<IsDefined>},
      {"undefined", Simple<IsUndefined>},
      {"filter", IsFilter},
      {"test", IsTest},
      {"none", Simple<IsNone>},
      {"boolean", Simple<IsBoolean>},
      {"false", Simple<IsFalse>},
      {"true", Simple<IsTrue>},
      {"integer", Simple<IsInteger>},
      {"float", Simple<IsFloat>},
      {"lower", InCase<IsLower, IsUpper>},
      {"upper", InCase<IsUpper, IsLower>},
      {"string", Simple<IsString>},
      {"mapping", Simple<IsMapping>},
      {"number", Simple<IsNumber>},
      {"sequence", Simple<IsSequence>},
      {"iterable", IsIterableTest},
      {"callable", Simple<IsCallable>},
      {"sameas", SameAs},
      {"escaped", Simple<IsEscaped>},
      {"in", In},
      {"==", Compared<CompareOp::kEqual>},
      {"eq", Compared<CompareOp::kEqual>},
      {"equalto", Compared<CompareOp::kEqual>},
      {"!=", Compared<CompareOp::kNotEqual>},
      {"ne", Compared<CompareOp::kNotEqual>},
      {">", Compared<CompareOp::kGreater>},
      {"gt", Compared<CompareOp::kGreater>},
      {"greaterthan", Compared<CompareOp::kGreater>},
      {">=", Compared<CompareOp::kGreaterEqual>},
      {"ge", Compared<CompareOp::kGreaterEqual>},
      {"<", Compared<CompareOp::kLess>},
      {"lt", Compared<CompareOp::kLess>},
      {"lessthan", Compared<CompareOp::kLess>},
      {"<=", Compared<CompareOp::kLessEqual>},
      {"le", Compared<CompareOp::kLessEqual>},
  };
  const auto found = kTests->find(name);
  return found == kTests->end() ? nullptr : found->second;
}

}  // namespace deltaserve::jinja
