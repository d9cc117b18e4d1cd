#pragma once

// The values of a template: Python's, as far as a sandboxed template can have them. A value is
// small and shares its object; strings, lists, tuples and dicts never change once made.
// Threads: one rendering belongs to one thread; constants of a parsed template are shared.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"

namespace deltaserve::jinja {

class Runtime;

// Integers beyond 127 bits are refused by name where Python would go on.
__extension__ typedef __int128 Int;  // NOLINT(modernize-use-using): an alias cannot carry the mark

enum class Type : uint8_t {
  kMissing,  // no value at all: a name not bound, an argument not given; templates never see it
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kDict,
  kDictView,
  kRange,
  kIterator,
  kNamespace,
  kFunction,
  kMethod,
  kMacro,
  kLoop,
};

// What a value shares. Its bytes count against the rendering that made it, until it is gone.
class Object {
 public:
  Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object();

  int depth() const { return depth_; }

 private:
  friend class Runtime;
  Runtime* runtime_ = nullptr;  // null: a constant of the template
  size_t bytes_ = 0;
  int depth_ = 0;  // of containers inside each other, this one included
};

struct StringObject;
struct ListObject;
struct DictObject;
struct DictViewObject;
struct RangeObject;
struct NamespaceObject;
struct FunctionObject;
struct MethodObject;
struct UndefinedObject;
class Iterator;

class Value {
 public:
  Value() = default;
  Value(Type type, std::shared_ptr<Object> object) : type_(type), object_(std::move(object)) {}

  static Value None() { return Value(Type::kNone, nullptr); }
  static Value Bool(bool value);
  static Value Integer(Int value);
  static Value Float(double value);
  // Undefined that says `message` where it is used.
  static Value Undefined(std::string message);
  // A constant, counted against no rendering.
  static Value Constant(std::string text);

  Type type() const { return type_; }
  bool Is(Type type) const { return type_ == type; }
  bool IsMissing() const { return type_ == Type::kMissing; }
  bool IsUndefined() const { return type_ == Type::kUndefined; }
  bool IsNone() const { return type_ == Type::kNone; }
  bool IsString() const { return type_ == Type::kString; }
  bool IsSafe() const;  // a string that `safe` or `escape` made
  // True for bool, int and float; for bool and int.
  bool IsNumber() const;
  bool IsIntegral() const { return type_ == Type::kBool || type_ == Type::kInt; }
  bool IsSequence() const { return type_ == Type::kList || type_ == Type::kTuple; }

  // The value must be of the kind asked for.
  bool bool_value() const { return int_ != 0; }
  Int int_value() const { return int_; }  // of a bool as well
  double float_value() const { return float_; }
  double AsDouble() const { return type_ == Type::kFloat ? float_ : static_cast<double>(int_); }
  const std::string& text() const;
  const StringObject& string() const;
  const std::vector<Value>& items() const;  // of a list or a tuple
  const ListObject& list() const;
  const DictObject& dict() const;
  const DictViewObject& dict_view() const;
  const RangeObject& range() const;
  NamespaceObject& name_space() const;
  const FunctionObject& function() const;
  const MethodObject& method() const;
  Iterator& iterator() const;
  const std::string& undefined_message() const;

  const std::shared_ptr<Object>& object() const { return object_; }
  int depth() const { return object_ == nullptr ? 0 : object_->depth(); }

 private:
  Type type_ = Type::kMissing;
  Int int_ = 0;
  double float_ = 0;
  std::shared_ptr<Object> object_;
};

struct UndefinedObject : Object {
  std::string message;
};

struct StringObject : Object {
  std::string text;
  size_t length = 0;  // in code points
  bool is_safe = false;

  bool IsAscii() const { return length == text.size(); }
};

struct ListObject : Object {
  std::vector<Value> items;
  bool is_group = false;  // a tuple of `groupby`: its items have the names grouper and list
};

// Hash and equality of dict keys: 1, 1.0 and True are one key. Keys must be hashable.
struct KeyHash {
  size_t operator()(const Value& key) const;
};
struct KeyEqual {
  bool operator()(const Value& a, const Value& b) const;
};

// Entries in the order of insertion.
struct DictObject : Object {
  std::vector<std::pair<Value, Value>> entries;
  absl::flat_hash_map<Value, size_t, KeyHash, KeyEqual> index;

  const Value* Find(const Value& key) const;
  const Value* Find(std::string_view key) const;
  void Set(const Value& key, Value value);
};

struct DictViewObject : Object {
  enum class Kind : uint8_t { kKeys, kValues, kItems };
  Value dict;
  Kind kind = Kind::kKeys;
};

struct RangeObject : Object {
  Int start = 0;
  Int stop = 0;
  Int step = 1;

  Int Size() const;
};

// The one kind of value that changes.
struct NamespaceObject : Object {
  std::vector<std::pair<std::string, Value>> attributes;

  const Value* Find(std::string_view name) const;
  void Set(std::string_view name, Value value);
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keywords;
};

using FunctionPointer = absl::StatusOr<Value> (*)(Runtime& runtime, const Arguments& arguments);

struct FunctionObject : Object {
  std::string name;
  FunctionPointer call = nullptr;
};

struct MethodObject : Object {
  Value self;
  std::string name;
};

// Gives values one at a time, once.
class Iterator : public Object {
 public:
  // False at the end; else `*item` is set.
  virtual absl::StatusOr<bool> Next(Runtime& runtime, Value* item) = 0;
  // What Python calls the type.
  virtual std::string_view type_name() const { return "generator"; }
};

// Python's name of the type: "str", "NoneType", ...
std::string_view TypeName(const Value& value);

// Python's truth. Never fails for what a template can have.
bool Truth(const Value& value);

}  // namespace deltaserve::jinja
