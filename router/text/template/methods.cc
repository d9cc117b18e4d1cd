#include "router/text/template/methods.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "kernels/base/status_macros.h"
#include "router/text/template/arguments.h"
#include "router/text/template/cat.h"
#include "router/text/template/iterate.h"
#include "router/text/template/loop.h"
#include "router/text/template/operators.h"

namespace deltaserve::jinja {
namespace {

using Names = std::set<std::string_view>;

MethodKind KindIn(const Names& safe, const Names& unsafe, std::string_view name) {
  if (safe.count(name) > 0) return MethodKind::kSafe;
  return unsafe.count(name) > 0 ? MethodKind::kUnsafe : MethodKind::kNone;
}

// Methods of str that FindStringMethod has not.
const Names& OtherStringMethods() {
  static const Names names = {"casefold", "encode", "maketrans", "translate"};
  return names;
}

const Names& SafeStringMethods() {
  static const Names names = {"escape", "unescape", "striptags"};
  return names;
}

absl::StatusOr<Value> DictMethod(Runtime& runtime,
                                 const Value& self,
                                 const std::string& name,
                                 const Arguments& arguments) {
  if (name == "get") {
    DS_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("get", arguments, {"", ""}, 1));
    DS_RETURN_IF_ERROR(CheckKey(runtime, bound[0]));
    if (const Value* found = self.dict().Find(bound[0]); found != nullptr) return *found;
    return bound[1].IsMissing() ? Value::None() : bound[1];
  }
  DS_RETURN_IF_ERROR(Bind(name, arguments, {}, 0).status());
  if (name == "items") return runtime.View(self, DictViewObject::Kind::kItems);
  if (name == "keys") return runtime.View(self, DictViewObject::Kind::kKeys);
  if (name == "values") return runtime.View(self, DictViewObject::Kind::kValues);
  return self;  // copy: nothing can tell the two apart, since neither can change
}

// count and index of a list, tuple or range.
absl::StatusOr<Value> SequenceMethod(Runtime& runtime,
                                     const Value& self,
                                     const std::string& name,
                                     const Arguments& arguments) {
  if (name == "copy") {
    DS_RETURN_IF_ERROR(Bind(name, arguments, {}, 0).status());
    return self;
  }
  DS_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind(name, arguments, {"", "", ""}, 1));
  std::vector<Value> items;
  DS_ASSIGN_OR_RETURN(items, Collect(runtime, self));
  const auto size = static_cast<Int>(items.size());
  DS_ASSIGN_OR_RETURN(Int first, IntArgument(name, bound[1], 0));
  DS_ASSIGN_OR_RETURN(Int last, IntArgument(name, bound[2], size));
  first = std::clamp<Int>(first < 0 ? first + size : first, 0, size);
  last = std::clamp<Int>(last < 0 ? last + size : last, 0, size);
  Int count = 0;
  for (Int i = first; i < last; ++i) {
    DS_ASSIGN_OR_RETURN(const bool is_equal,
                        Equals(runtime, items[static_cast<size_t>(i)], bound[0]));
    if (is_equal && name == "index") return Value::Integer(i);
    if (is_equal) ++count;
  }
  if (name == "index") return Wrong("the value is not in the ", TypeName(self));
  return Value::Integer(count);
}

absl::StatusOr<Value> NumberMethod(const Value& self,
                                   const std::string& name,
                                   const Arguments& arguments) {
  DS_RETURN_IF_ERROR(Bind(name, arguments, {}, 0).status());
  if (name == "conjugate") return Positive(self);
  if (name == "is_integer") {
    const double value = self.float_value();
    return Value::Bool(std::isfinite(value) && value == std::floor(value));
  }
  Int value = self.int_value() < 0 ? -self.int_value() : self.int_value();
  Int bits = 0;
  for (; value > 0; value /= 2) bits += name == "bit_length" ? 1 : value % 2;
  return Value::Integer(bits);
}

}  // namespace

MethodKind FindMethod(const Value& object, std::string_view name) {
  static const Names kNone = {};
  static const Names kListSafe = {"copy", "count", "index"};
  static const Names kListUnsafe = {"append", "clear",  "extend",  "insert",
                                    "pop",    "remove", "reverse", "sort"};
  static const Names kTupleSafe = {"count", "index"};
  static const Names kDictSafe = {"copy", "fromkeys", "get", "items", "keys", "values"};
  static const Names kDictUnsafe = {"clear", "pop", "popitem", "setdefault", "update"};
  static const Names kViewSafe = {"isdisjoint", "mapping"};
  static const Names kIntSafe = {"as_integer_ratio", "bit_count",  "bit_length",
                                 "conjugate",        "from_bytes", "to_bytes"};
  static const Names kFloatSafe = {"as_integer_ratio", "conjugate", "fromhex", "hex", "is_integer"};
  static const Names kLoopSafe = {"changed", "cycle"};
  switch (object.type()) {
    case Type::kString:
      if (FindStringMethod(name) != nullptr || OtherStringMethods().count(name) > 0 ||
          (object.IsSafe() && SafeStringMethods().count(name) > 0)) {
        return MethodKind::kSafe;
      }
      return MethodKind::kNone;
    case Type::kList:
      return KindIn(kListSafe, kListUnsafe, name);
    case Type::kTuple:
    case Type::kRange:
      return KindIn(kTupleSafe, kNone, name);
    case Type::kDict:
      return KindIn(kDictSafe, kDictUnsafe, name);
    case Type::kDictView:
      return KindIn(kViewSafe, kNone, name);
    case Type::kBool:
    case Type::kInt:
      return KindIn(kIntSafe, kNone, name);
    case Type::kFloat:
      return KindIn(kFloatSafe, kNone, name);
    case Type::kLoop:
      return KindIn(kLoopSafe, kNone, name);
    default:
      return MethodKind::kNone;
  }
}

bool HasInternalAttribute(const Value& object, std::string_view name) {
  static const Names kOfEvery = {
      "__class__",   "__delattr__", "__dir__",          "__doc__",         "__eq__",
      "__format__",  "__ge__",      "__getattribute__", "__getstate__",    "__gt__",
      "__hash__",    "__init__",    "__le__",           "__lt__",          "__init_subclass__",
      "__ne__",      "__new__",     "__reduce__",       "__reduce_ex__",   "__repr__",
      "__setattr__", "__sizeof__",  "__str__",          "__subclasshook__"};
  static const Names kOfContainers = {"__class_getitem__", "__contains__", "__getitem__",
                                      "__iter__",          "__len__",      "__reversed__"};
  if (object.Is(Type::kNamespace)) return name == "__class__";
  if (kOfEvery.count(name) > 0) return true;
  return (object.Is(Type::kDict) || object.Is(Type::kList)) && kOfContainers.count(name) > 0;
}

absl::StatusOr<Value> CallMethod(Runtime& runtime,
                                 const Value& self,
                                 const std::string& name,
                                 const Arguments& arguments) {
  DS_RETURN_IF_ERROR(runtime.Step());
  switch (self.type()) {
    case Type::kString:
      if (const MethodFunction method = FindStringMethod(name); method != nullptr) {
        return method(runtime, self, arguments);
      }
      break;
    case Type::kDict:
      if (name != "fromkeys") return DictMethod(runtime, self, name, arguments);
      break;
    case Type::kList:
    case Type::kTuple:
    case Type::kRange:
      return SequenceMethod(runtime, self, name, arguments);
    case Type::kBool:
    case Type::kInt:
      if (name == "conjugate" || name == "bit_length" || name == "bit_count") {
        return NumberMethod(self, name, arguments);
      }
      break;
    case Type::kFloat:
      if (name == "conjugate" || name == "is_integer") return NumberMethod(self, name, arguments);
      break;
    case Type::kLoop: {
      auto& loop = static_cast<LoopObject&>(*self.object());
      return name == "cycle" ? loop.Cycle(arguments) : loop.Changed(runtime, arguments);
    }
    default:
      break;
  }
  return absl::UnimplementedError(
      Cat("the method ", TypeName(self), ".", name, " is not supported in chat templates"));
}

}  // namespace deltaserve::jinja
