#include "router/text/template/value.h"

#include <cmath>

#include "absl/hash/hash.h"
#include "kernels/base/check.h"
#include "router/text/template/operators.h"
#include "router/text/template/runtime.h"
#include "router/text/template/text.h"

namespace deltaserve::jinja {
namespace {

template <typename T>
T& Cast(const Value& value) {
  DS_CHECK(value.object() != nullptr) << TypeName(value);
  return static_cast<T&>(*value.object());
}

bool IsWhole(double value) {
  return std::isfinite(value) && std::floor(value) == value && std::abs(value) < 0x1p126;
}

}  // namespace

Object::~Object() {
  if (runtime_ != nullptr) runtime_->Release(bytes_);
}

Value Value::Bool(bool value) {
  Value result(Type::kBool, nullptr);
  result.int_ = value ? 1 : 0;
  return result;
}

Value Value::Integer(Int value) {
  Value result(Type::kInt, nullptr);
  result.int_ = value;
  return result;
}

Value Value::Float(double value) {
  Value result(Type::kFloat, nullptr);
  result.float_ = value;
  return result;
}

Value Value::Undefined(std::string message) {
  auto object = std::make_shared<UndefinedObject>();
  object->message = std::move(message);
  return Value(Type::kUndefined, std::move(object));
}

Value Value::Constant(std::string text) {
  auto object = std::make_shared<StringObject>();
  object->length = CountCodePoints(text);
  object->text = std::move(text);
  return Value(Type::kString, std::move(object));
}

bool Value::IsSafe() const { return IsString() && string().is_safe; }
bool Value::IsNumber() const { return IsIntegral() || type_ == Type::kFloat; }
const std::string& Value::text() const { return string().text; }
const StringObject& Value::string() const { return Cast<StringObject>(*this); }
const std::vector<Value>& Value::items() const { return list().items; }
const ListObject& Value::list() const { return Cast<ListObject>(*this); }
const DictObject& Value::dict() const { return Cast<DictObject>(*this); }
const DictViewObject& Value::dict_view() const { return Cast<DictViewObject>(*this); }
const RangeObject& Value::range() const { return Cast<RangeObject>(*this); }
NamespaceObject& Value::name_space() const { return Cast<NamespaceObject>(*this); }
const FunctionObject& Value::function() const { return Cast<FunctionObject>(*this); }
const MethodObject& Value::method() const { return Cast<MethodObject>(*this); }
Iterator& Value::iterator() const { return Cast<Iterator>(*this); }
const std::string& Value::undefined_message() const { return Cast<UndefinedObject>(*this).message; }

size_t KeyHash::operator()(const Value& key) const {
  switch (key.type()) {
    case Type::kString:
      return absl::HashOf(key.text());
    case Type::kBool:
    case Type::kInt:
      return absl::HashOf(static_cast<int64_t>(key.int_value()));
    case Type::kFloat:
      if (IsWhole(key.float_value())) {
        return absl::HashOf(static_cast<int64_t>(static_cast<Int>(key.float_value())));
      }
      return absl::HashOf(key.float_value());
    case Type::kTuple: {
      size_t hash = key.items().size();
      for (const Value& item : key.items()) hash = absl::HashOf(hash, (*this)(item));
      return hash;
    }
    default:
      return absl::HashOf(static_cast<int>(key.type()), key.object().get());
  }
}

bool KeyEqual::operator()(const Value& a, const Value& b) const { return Equal(a, b); }

const Value* DictObject::Find(const Value& key) const {
  const auto found = index.find(key);
  return found == index.end() ? nullptr : &entries[found->second].second;
}

const Value* DictObject::Find(std::string_view key) const {
  return Find(Value::Constant(std::string(key)));
}

void DictObject::Set(const Value& key, Value value) {
  const auto [found, is_new] = index.try_emplace(key, entries.size());
  if (is_new) {
    entries.emplace_back(key, std::move(value));
  } else {
    entries[found->second].second = std::move(value);
  }
}

Int RangeObject::Size() const {
  if (step > 0) return start < stop ? (stop - start - 1) / step + 1 : 0;
  return start > stop ? (start - stop - 1) / -step + 1 : 0;
}

const Value* NamespaceObject::Find(std::string_view name) const {
  for (const auto& [key, value] : attributes) {
    if (key == name) return &value;
  }
  return nullptr;
}

void NamespaceObject::Set(std::string_view name, Value value) {
  for (auto& [key, old] : attributes) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  attributes.emplace_back(name, std::move(value));
}

std::string_view TypeName(const Value& value) {
  switch (value.type()) {
    case Type::kMissing:
    case Type::kUndefined:
      return "Undefined";
    case Type::kNone:
      return "NoneType";
    case Type::kBool:
      return "bool";
    case Type::kInt:
      return "int";
    case Type::kFloat:
      return "float";
    case Type::kString:
      return value.IsSafe() ? "Markup" : "str";
    case Type::kList:
      return "list";
    case Type::kTuple:
      return "tuple";
    case Type::kDict:
      return "dict";
    case Type::kDictView:
      switch (value.dict_view().kind) {
        case DictViewObject::Kind::kKeys:
          return "dict_keys";
        case DictViewObject::Kind::kValues:
          return "dict_values";
        case DictViewObject::Kind::kItems:
          return "dict_items";
      }
      return "dict_items";
    case Type::kRange:
      return "range";
    case Type::kIterator:
      return value.iterator().type_name();
    case Type::kNamespace:
      return "TemplateNamespace";
    case Type::kFunction:
      return "function";
    case Type::kMethod:
      return "method";
    case Type::kMacro:
      return "Macro";
    case Type::kLoop:
      return "LoopContext";
  }
  return "object";
}

bool Truth(const Value& value) {
  switch (value.type()) {
    case Type::kMissing:
    case Type::kUndefined:
    case Type::kNone:
      return false;
    case Type::kBool:
    case Type::kInt:
      return value.int_value() != 0;
    case Type::kFloat:
      return value.float_value() != 0;
    case Type::kString:
      return !value.text().empty();
    case Type::kList:
    case Type::kTuple:
      return !value.items().empty();
    case Type::kDict:
      return !value.dict().entries.empty();
    case Type::kDictView:
      return !value.dict_view().dict.dict().entries.empty();
    case Type::kRange:
      return value.range().Size() > 0;
    default:
      return true;
  }
}

}  // namespace deltaserve::jinja
