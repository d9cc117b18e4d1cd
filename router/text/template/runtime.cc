#include "router/text/template/runtime.h"

#include <algorithm>
#include <utility>

#include "kernels/base/status_macros.h"
#include "router/text/template/cat.h"
#include "router/text/template/text.h"

namespace deltaserve::jinja {
namespace {

constexpr size_t kIteratorBytes = 128;
constexpr size_t kObjectBytes = 96;  // an object, its count and what the allocator adds

int DeepestOf(const std::vector<Value>& items) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  return depth;
}

}  // namespace

Runtime::~Runtime() {
  // A namespace may hold another or itself: each is emptied while all of them are still held.
  for (const auto& held : namespaces_) {
    const auto attributes = std::exchange(held->attributes, {});
  }
}

absl::Status Runtime::Step(int64_t steps) {
  steps_ += steps;
  if (steps_ <= limits_.max_steps) return absl::OkStatus();
  return absl::ResourceExhaustedError(Cat("the template takes more than max_steps ",
                                          limits_.max_steps, "; shorten the conversation"));
}

absl::Status Runtime::CheckRoom(size_t bytes) const {
  if (bytes <= limits_.max_memory_bytes && memory_bytes_ <= limits_.max_memory_bytes - bytes) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(
      Cat("the template's values take more than "
          "max_memory_bytes ",
          limits_.max_memory_bytes, "; shorten the conversation"));
}

absl::StatusOr<Value> Runtime::Adopt(Type type,
                                     std::shared_ptr<Object> object,
                                     size_t bytes,
                                     int inner_depth) {
  if (inner_depth >= limits_.max_value_depth) {
    return absl::ResourceExhaustedError(
        Cat("values lie inside each other more than max_value_depth ", limits_.max_value_depth,
            " deep"));
  }
  bytes += kObjectBytes;
  DS_RETURN_IF_ERROR(CheckRoom(bytes));
  Reserve(bytes);
  object->runtime_ = this;
  object->bytes_ = bytes;
  object->depth_ = inner_depth;
  return Value(type, std::move(object));
}

absl::StatusOr<Value> Runtime::String(std::string text, bool is_safe) {
  DS_RETURN_IF_ERROR(Work(text.size()));
  auto object = std::make_shared<StringObject>();
  object->length = CountCodePoints(text);
  object->is_safe = is_safe;
  const size_t bytes = text.capacity();
  object->text = std::move(text);
  return Adopt(Type::kString, std::move(object), bytes, 0);
}

absl::StatusOr<Value> Runtime::List(std::vector<Value> items) {
  auto object = std::make_shared<ListObject>();
  const size_t bytes = items.capacity() * sizeof(Value);
  const int inner_depth = DeepestOf(items) + 1;
  object->items = std::move(items);
  return Adopt(Type::kList, std::move(object), bytes, inner_depth);
}

absl::StatusOr<Value> Runtime::Tuple(std::vector<Value> items) {
  auto object = std::make_shared<ListObject>();
  const size_t bytes = items.capacity() * sizeof(Value);
  const int inner_depth = DeepestOf(items) + 1;
  object->items = std::move(items);
  return Adopt(Type::kTuple, std::move(object), bytes, inner_depth);
}

absl::StatusOr<Value> Runtime::Dict(std::shared_ptr<DictObject> dict) {
  const size_t bytes = dict->entries.capacity() * 4 * sizeof(Value);
  int inner_depth = 0;
  for (const auto& [key, value] : dict->entries) {
    inner_depth = std::max({inner_depth, key.depth(), value.depth()});
  }
  return Adopt(Type::kDict, std::move(dict), bytes, inner_depth + 1);
}

absl::StatusOr<Value> Runtime::Namespace() {
  auto object = std::make_shared<NamespaceObject>();
  DS_ASSIGN_OR_RETURN(Value value, Adopt(Type::kNamespace, object, sizeof(NamespaceObject), 0));
  namespaces_.push_back(std::move(object));
  return value;
}

absl::StatusOr<Value> Runtime::Undefined(std::string message) {
  Value value = Value::Undefined(std::move(message));
  return Adopt(Type::kUndefined, value.object(), value.undefined_message().capacity(), 0);
}

absl::StatusOr<Value> Runtime::Method(const Value& self, std::string name) {
  auto object = std::make_shared<MethodObject>();
  object->self = self;
  object->name = std::move(name);
  return Adopt(Type::kMethod, std::move(object), sizeof(MethodObject), self.depth() + 1);
}

absl::StatusOr<Value> Runtime::View(const Value& dict, DictViewObject::Kind kind) {
  auto object = std::make_shared<DictViewObject>();
  object->dict = dict;
  object->kind = kind;
  return Adopt(Type::kDictView, std::move(object), sizeof(DictViewObject), dict.depth() + 1);
}

absl::StatusOr<Value> Runtime::Range(Int start, Int stop, Int step) {
  auto object = std::make_shared<RangeObject>();
  object->start = start;
  object->stop = stop;
  object->step = step;
  return Adopt(Type::kRange, std::move(object), sizeof(RangeObject), 0);
}

absl::StatusOr<Value> Runtime::Generator(std::shared_ptr<Iterator> iterator,
                                         int inner_depth,
                                         size_t bytes) {
  return Adopt(Type::kIterator, std::move(iterator), kIteratorBytes + bytes, inner_depth + 1);
}

absl::Status DepthScope::Check() const {
  if (runtime_->depth_ <= runtime_->limits_.max_depth) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      Cat("blocks, expressions and macro calls lie inside each other more than max_depth ",
          runtime_->limits_.max_depth, " deep"));
}

absl::Status Buffer::Append(std::string_view text) {
  const size_t most = runtime_->limits().max_output_bytes;
  if (text.size() > most || text_.size() > most - text.size()) {
    return absl::ResourceExhaustedError(
        Cat("the template writes more than max_output_bytes ", most, "; shorten the conversation"));
  }
  DS_RETURN_IF_ERROR(runtime_->Work(text.size()));
  DS_RETURN_IF_ERROR(runtime_->CheckRoom(text.size()));
  runtime_->Reserve(text.size());
  text_.append(text);
  return absl::OkStatus();
}

std::string Buffer::Take() {
  runtime_->Release(text_.size());
  return std::exchange(text_, {});
}

}  // namespace deltaserve::jinja
