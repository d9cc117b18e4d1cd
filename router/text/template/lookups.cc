#include "router/text/template/lookups.h"

#include <algorithm>

#include "absl/strings/str_split.h"
#include "kernels/base/status_macros.h"
#include "kernels/base/utf8.h"
#include "router/text/template/cat.h"
#include "router/text/template/iterate.h"
#include "router/text/template/loop.h"
#include "router/text/template/macro.h"
#include "router/text/template/methods.h"
#include "router/text/template/operators.h"
#include "router/text/template/repr.h"
#include "router/text/template/string_parts.h"
#include "router/text/template/text.h"

namespace deltaserve::jinja {
namespace {

constexpr size_t kPartBytes = 256;  // a name of one letter as a part of an attribute's path

bool IsDunder(std::string_view name) { return name.starts_with("__"); }

absl::StatusOr<Value> Unsafe(Runtime& runtime, const Value& object, std::string_view name) {
  return runtime.Undefined(Cat("access to attribute ", QuoteShort(name), " of '", TypeName(object),
                               "' object is unsafe."));
}

std::string NameOf(const Value& object) {
  if (object.IsNone()) return "None";
  return Cat(TypeName(object), " object");
}

absl::StatusOr<Value> NotThere(Runtime& runtime, const Value& object, const Value& key) {
  if (key.IsString()) {
    return runtime.Undefined(
        Cat("'", NameOf(object), "' has no attribute ", QuoteShort(key.text())));
  }
  if (!key.IsNumber() && !key.IsNone()) {
    return runtime.Undefined(Cat(NameOf(object), " has no element of type ", TypeName(key)));
  }
  DS_ASSIGN_OR_RETURN(const std::string text, Repr(runtime, key));
  return runtime.Undefined(Cat(NameOf(object), " has no element ", text));
}

absl::StatusOr<bool> MacroAttribute(Runtime& runtime,
                                    const Value& object,
                                    std::string_view name,
                                    Value* value) {
  const MacroStatement& macro = *static_cast<const MacroObject&>(*object.object()).statement;
  if (name == "name") {
    DS_ASSIGN_OR_RETURN(*value, runtime.String(macro.name));
  } else if (name == "arguments") {
    std::vector<Value> names;
    for (const std::string& parameter : macro.parameters) {
      DS_ASSIGN_OR_RETURN(Value text, runtime.String(parameter));
      names.push_back(std::move(text));
    }
    DS_ASSIGN_OR_RETURN(*value, runtime.Tuple(std::move(names)));
  } else if (name == "catch_kwargs" || name == "catch_varargs" || name == "caller") {
    const int slot = name == "caller"         ? macro.caller_slot
                     : name == "catch_kwargs" ? macro.kwargs_slot
                                              : macro.varargs_slot;
    *value = Value::Bool(slot >= 0);
  } else {
    return false;
  }
  return true;
}

// Values that are attributes and no methods. False where `object` has none of the name.
absl::StatusOr<bool> PlainAttribute(Runtime& runtime,
                                    const Value& object,
                                    std::string_view name,
                                    Value* value) {
  switch (object.type()) {
    case Type::kNamespace:
      if (const Value* found = object.name_space().Find(name); found != nullptr) {
        *value = *found;
        return true;
      }
      return false;
    case Type::kLoop:
      return static_cast<LoopObject&>(*object.object()).Attribute(runtime, name, value);
    case Type::kMacro:
      return MacroAttribute(runtime, object, name, value);
    case Type::kRange:
      if (name != "start" && name != "stop" && name != "step") return false;
      *value = Value::Integer(name == "start"  ? object.range().start
                              : name == "stop" ? object.range().stop
                                               : object.range().step);
      return true;
    case Type::kBool:
    case Type::kInt:
    case Type::kFloat:
      if (name == "real" || (name == "numerator" && object.IsIntegral())) {
        DS_ASSIGN_OR_RETURN(*value, Positive(object));
      } else if (name == "imag") {
        *value = object.IsIntegral() ? Value::Integer(0) : Value::Float(0);
      } else if (name == "denominator" && object.IsIntegral()) {
        *value = Value::Integer(1);
      } else {
        return false;
      }
      return true;
    case Type::kTuple:
      if (!object.list().is_group || (name != "grouper" && name != "list")) return false;
      *value = object.items()[name == "grouper" ? 0 : 1];
      return true;
    default:
      return false;
  }
}

// getattr(object, name) in the sandbox; false where Python has no such attribute.
absl::StatusOr<bool> FindAttribute(Runtime& runtime,
                                   const Value& object,
                                   const std::string& name,
                                   Value* value) {
  DS_RETURN_IF_ERROR(runtime.Step());
  if (object.IsUndefined()) {
    if (IsDunder(name) && name.ends_with("__")) return false;
    return UndefinedUse(object);
  }
  DS_ASSIGN_OR_RETURN(const bool is_plain, PlainAttribute(runtime, object, name, value));
  if (is_plain) return true;
  if (IsDunder(name)) {
    if (!HasInternalAttribute(object, name)) return false;
    DS_ASSIGN_OR_RETURN(*value, Unsafe(runtime, object, name));
    return true;
  }
  switch (FindMethod(object, name)) {
    case MethodKind::kNone:
      return false;
    case MethodKind::kUnsafe: {
      DS_ASSIGN_OR_RETURN(*value, Unsafe(runtime, object, name));
      return true;
    }
    case MethodKind::kSafe: {
      DS_ASSIGN_OR_RETURN(*value, runtime.Method(object, name));
      return true;
    }
  }
  return false;
}

// The place of an index in `size` items; false where it is outside.
bool FindPlace(Int index, Int size, size_t* place) {
  if (index < 0) index += size;
  if (index < 0 || index >= size) return false;
  *place = static_cast<size_t>(index);
  return true;
}

absl::StatusOr<Value> Character(Runtime& runtime, const StringObject& string, size_t place) {
  if (string.IsAscii()) return runtime.String(string.text.substr(place, 1), string.is_safe);
  std::u32string points;
  DS_ASSIGN_OR_RETURN(points, CodePoints(runtime, string.text));
  return runtime.String(ToUtf8(std::u32string_view(points).substr(place, 1)), string.is_safe);
}

// object[key]; false where Python raises TypeError or LookupError.
absl::StatusOr<bool> FindItem(Runtime& runtime,
                              const Value& object,
                              const Value& key,
                              Value* value) {
  DS_RETURN_IF_ERROR(runtime.Step());
  size_t place = 0;
  switch (object.type()) {
    case Type::kUndefined:
      return UndefinedUse(object);
    case Type::kDict: {
      if (const absl::Status status = CheckKey(runtime, key); !status.ok()) {
        if (absl::IsInvalidArgument(status)) return false;
        return status;
      }
      const Value* found = object.dict().Find(key);
      if (found == nullptr) return false;
      *value = *found;
      return true;
    }
    case Type::kList:
    case Type::kTuple: {
      const auto size = static_cast<Int>(object.items().size());
      if (!key.IsIntegral() || !FindPlace(key.int_value(), size, &place)) return false;
      *value = object.items()[place];
      return true;
    }
    case Type::kString: {
      const auto size = static_cast<Int>(object.string().length);
      if (!key.IsIntegral() || !FindPlace(key.int_value(), size, &place)) return false;
      DS_ASSIGN_OR_RETURN(*value, Character(runtime, object.string(), place));
      return true;
    }
    case Type::kRange:
      if (!key.IsIntegral() || !FindPlace(key.int_value(), object.range().Size(), &place)) {
        return false;
      }
      *value = Value::Integer(object.range().start + static_cast<Int>(place) * object.range().step);
      return true;
    default:
      return false;
  }
}

absl::StatusOr<Value> SliceOfString(Runtime& runtime,
                                    const StringObject& string,
                                    const SlicePlaces& places) {
  DS_RETURN_IF_ERROR(runtime.Work(string.text.size()));
  const auto first = static_cast<size_t>(places.first);
  if (places.count == 0) return runtime.String("", string.is_safe);
  if (string.IsAscii() && places.step == 1) {
    return runtime.String(string.text.substr(first, static_cast<size_t>(places.count)),
                          string.is_safe);
  }
  std::u32string points;
  DS_ASSIGN_OR_RETURN(points, CodePoints(runtime, string.text));
  std::string text;
  for (Int i = 0; i < places.count; ++i) {
    AppendUtf8(points[static_cast<size_t>(places.first + i * places.step)], &text);
  }
  return runtime.String(std::move(text), string.is_safe);
}

absl::StatusOr<Value> SliceOfItems(Runtime& runtime,
                                   const Value& object,
                                   const SlicePlaces& places) {
  DS_RETURN_IF_ERROR(runtime.Step(static_cast<int64_t>(places.count)));
  std::vector<Value> items;
  items.reserve(static_cast<size_t>(places.count));
  for (Int i = 0; i < places.count; ++i) {
    items.push_back(object.items()[static_cast<size_t>(places.first + i * places.step)]);
  }
  return object.Is(Type::kList) ? runtime.List(std::move(items)) : runtime.Tuple(std::move(items));
}

// Beyond what a range may have, so that nothing overflows in one.
bool IsFar(Int value) { return value > INT64_MAX || value < -INT64_MAX; }

// A bound of a slice, brought into low..high.
absl::StatusOr<Int> Bound(const Value& value, Int size, Int low, Int high, Int otherwise) {
  if (value.IsMissing() || value.IsNone()) return otherwise;
  if (!value.IsIntegral()) {
    return Wrong("slice indices must be integers or None or have an __index__ method");
  }
  Int index = value.int_value();
  if (index < 0) index += size;
  return std::clamp(index, low, high);
}

}  // namespace

absl::StatusOr<SlicePlaces> PlacesOf(Int size,
                                     const Value& start,
                                     const Value& stop,
                                     const Value& step) {
  SlicePlaces places;
  if (!step.IsMissing() && !step.IsNone()) {
    if (!step.IsIntegral()) {
      return Wrong("slice indices must be integers or None or have an __index__ method");
    }
    places.step = std::clamp<Int>(step.int_value(), -INT64_MAX, INT64_MAX);
    if (places.step == 0) return Wrong("slice step cannot be zero");
  }
  const bool is_forward = places.step > 0;
  const Int low = is_forward ? 0 : -1;
  const Int high = is_forward ? size : size - 1;
  DS_ASSIGN_OR_RETURN(places.first, Bound(start, size, low, high, is_forward ? low : high));
  DS_ASSIGN_OR_RETURN(const Int end, Bound(stop, size, low, high, is_forward ? high : low));
  RangeObject range;
  range.start = places.first;
  range.stop = end;
  range.step = places.step;
  places.count = range.Size();
  return places;
}

absl::StatusOr<Value> GetAttribute(Runtime& runtime, const Value& object, const std::string& name) {
  Value value;
  DS_ASSIGN_OR_RETURN(const bool is_attribute, FindAttribute(runtime, object, name, &value));
  if (is_attribute) return value;
  DS_ASSIGN_OR_RETURN(const Value key, runtime.String(name));
  DS_ASSIGN_OR_RETURN(const bool is_item, FindItem(runtime, object, key, &value));
  if (is_item) return value;
  return NotThere(runtime, object, key);
}

absl::StatusOr<Value> GetItem(Runtime& runtime, const Value& object, const Value& key) {
  Value value;
  DS_ASSIGN_OR_RETURN(const bool is_item, FindItem(runtime, object, key, &value));
  if (is_item) return value;
  if (key.IsString()) {
    DS_ASSIGN_OR_RETURN(const bool found, FindAttribute(runtime, object, key.text(), &value));
    if (found) return value;
  }
  return NotThere(runtime, object, key);
}

absl::StatusOr<Value> GetAttributeOnly(Runtime& runtime,
                                       const Value& object,
                                       const std::string& name) {
  Value value;
  DS_ASSIGN_OR_RETURN(const bool found, FindAttribute(runtime, object, name, &value));
  if (found) return value;
  DS_ASSIGN_OR_RETURN(const Value key, runtime.String(name));
  return NotThere(runtime, object, key);
}

absl::StatusOr<Value> GetSlice(Runtime& runtime,
                               const Value& object,
                               const Value& start,
                               const Value& stop,
                               const Value& step) {
  if (object.IsUndefined()) return UndefinedUse(object);
  const bool is_range = object.Is(Type::kRange);
  if (!object.IsString() && !object.IsSequence() && !is_range) {
    return Wrong("'", TypeName(object), "' object cannot be sliced");
  }
  DS_ASSIGN_OR_RETURN(const Int size, Length(object));
  DS_ASSIGN_OR_RETURN(const SlicePlaces places, PlacesOf(size, start, stop, step));
  if (object.IsString()) return SliceOfString(runtime, object.string(), places);
  if (object.IsSequence()) return SliceOfItems(runtime, object, places);
  const RangeObject& range = object.range();
  DS_ASSIGN_OR_RETURN(const Int end,
                      Bound(stop, size, places.step > 0 ? 0 : -1, places.step > 0 ? size : size - 1,
                            places.step > 0 ? size : -1));
  Int stride = 0;
  const auto place = [&range](Int index) { return range.start + index * range.step; };
  if (__builtin_mul_overflow(places.step, range.step, &stride) || IsFar(stride) ||
      IsFar(place(places.first)) || IsFar(place(end))) {
    return absl::OutOfRangeError("a range of integers beyond 63 bits is not supported");
  }
  return runtime.Range(place(places.first), place(end), stride);
}

absl::StatusOr<std::vector<Value>> ParseAttributePath(Runtime& runtime, const Value& attribute) {
  std::vector<Value> path;
  if (attribute.IsMissing() || attribute.IsNone()) return path;
  if (!attribute.IsString()) {
    path.push_back(attribute);
    return path;
  }
  DS_RETURN_IF_ERROR(runtime.Step(static_cast<int64_t>(attribute.text().size())));
  DS_RETURN_IF_ERROR(runtime.CheckRoom(attribute.text().size() * kPartBytes));
  for (const std::string& part : std::vector<std::string>(absl::StrSplit(attribute.text(), '.'))) {
    const bool is_number =
        !part.empty() && part.size() < 18 &&
        std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (is_number) {
      path.push_back(Value::Integer(std::stoll(part)));
    } else {
      path.push_back(Value::Constant(part));
    }
  }
  return path;
}

absl::StatusOr<Value> FollowPath(Runtime& runtime,
                                 const Value& object,
                                 const std::vector<Value>& path,
                                 const Value& otherwise) {
  Value value = object;
  for (const Value& key : path) {
    DS_ASSIGN_OR_RETURN(value, GetItem(runtime, value, key));
    if (value.IsUndefined() && !otherwise.IsMissing() && !otherwise.IsNone()) value = otherwise;
  }
  return value;
}

}  // namespace deltaserve::jinja
