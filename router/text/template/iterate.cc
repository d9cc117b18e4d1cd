#include "router/text/template/iterate.h"

#include <algorithm>
#include <utility>

#include "kernels/base/status_macros.h"
#include "router/text/template/text.h"

namespace deltaserve::jinja {
namespace {

// Over a list or tuple, forwards or backwards; holds the value.
class ItemIterator : public Iterator {
 public:
  ItemIterator(Value owner, bool is_reverse) : owner_(std::move(owner)), is_reverse_(is_reverse) {}

  absl::StatusOr<bool> Next(Runtime& runtime, Value* item) override {
    DS_RETURN_IF_ERROR(runtime.Step());
    const std::vector<Value>& items = owner_.items();
    if (next_ == items.size()) return false;
    *item = items[is_reverse_ ? items.size() - 1 - next_ : next_];
    ++next_;
    return true;
  }
  std::string_view type_name() const override {
    return is_reverse_ ? "list_reverseiterator" : "list_iterator";
  }

 private:
  const Value owner_;
  const bool is_reverse_;
  size_t next_ = 0;
};

class OwnedIterator : public Iterator {
 public:
  OwnedIterator(std::vector<Value> items, std::string_view name)
      : items_(std::move(items)), name_(name) {}

  absl::StatusOr<bool> Next(Runtime& runtime, Value* item) override {
    DS_RETURN_IF_ERROR(runtime.Step());
    if (next_ == items_.size()) return false;
    *item = std::move(items_[next_++]);
    return true;
  }
  std::string_view type_name() const override { return name_; }

 private:
  std::vector<Value> items_;
  const std::string_view name_;
  size_t next_ = 0;
};

// Over the characters of a string.
class CharacterIterator : public Iterator {
 public:
  explicit CharacterIterator(Value owner) : owner_(std::move(owner)) {}

  absl::StatusOr<bool> Next(Runtime& runtime, Value* item) override {
    DS_RETURN_IF_ERROR(runtime.Step());
    const std::string& text = owner_.text();
    if (at_ == text.size()) return false;
    size_t end = at_ + 1;
    while (end < text.size() && (static_cast<uint8_t>(text[end]) & 0xC0u) == 0x80) ++end;
    DS_ASSIGN_OR_RETURN(*item, runtime.String(text.substr(at_, end - at_)));
    at_ = end;
    return true;
  }
  std::string_view type_name() const override { return "str_ascii_iterator"; }

 private:
  const Value owner_;
  size_t at_ = 0;
};

// Over the keys, values or items of a dict.
class EntryIterator : public Iterator {
 public:
  EntryIterator(Value owner, DictViewObject::Kind kind, bool is_reverse)
      : owner_(std::move(owner)), kind_(kind), is_reverse_(is_reverse) {}

  absl::StatusOr<bool> Next(Runtime& runtime, Value* item) override {
    DS_RETURN_IF_ERROR(runtime.Step());
    const auto& entries = owner_.dict().entries;
    if (next_ == entries.size()) return false;
    const auto& [key, value] = entries[is_reverse_ ? entries.size() - 1 - next_ : next_];
    ++next_;
    if (kind_ == DictViewObject::Kind::kItems) {
      DS_ASSIGN_OR_RETURN(*item, runtime.Tuple({key, value}));
    } else {
      *item = kind_ == DictViewObject::Kind::kKeys ? key : value;
    }
    return true;
  }
  std::string_view type_name() const override { return "dict_itemiterator"; }

 private:
  const Value owner_;
  const DictViewObject::Kind kind_;
  const bool is_reverse_;
  size_t next_ = 0;
};

class RangeIterator : public Iterator {
 public:
  RangeIterator(Int start, Int step, Int size) : value_(start), step_(step), left_(size) {}

  absl::StatusOr<bool> Next(Runtime& runtime, Value* item) override {
    DS_RETURN_IF_ERROR(runtime.Step());
    if (left_ == 0) return false;
    *item = Value::Integer(value_);
    if (--left_ > 0) value_ += step_;
    return true;
  }
  std::string_view type_name() const override { return "range_iterator"; }

 private:
  Int value_;
  const Int step_;
  Int left_;
};

class FunctionIterator : public Iterator {
 public:
  explicit FunctionIterator(NextItem next) : next_(std::move(next)) {}

  absl::StatusOr<bool> Next(Runtime& runtime, Value* item) override {
    DS_RETURN_IF_ERROR(runtime.Step());
    const DepthScope depth(&runtime);
    DS_RETURN_IF_ERROR(depth.Check());
    return next_(runtime, item);
  }

 private:
  const NextItem next_;
};

std::shared_ptr<Iterator> OfRange(const RangeObject& range, bool is_reverse) {
  const Int size = range.Size();
  if (!is_reverse) return std::make_shared<RangeIterator>(range.start, range.step, size);
  return std::make_shared<RangeIterator>(size == 0 ? 0 : range.start + (size - 1) * range.step,
                                         size == 0 ? 1 : -range.step, size);
}

}  // namespace

std::shared_ptr<Iterator> IterateItems(std::vector<Value> items, std::string_view name) {
  return std::make_shared<OwnedIterator>(std::move(items), name);
}

std::shared_ptr<Iterator> IterateFunction(NextItem next) {
  return std::make_shared<FunctionIterator>(std::move(next));
}

bool IsIterable(const Value& value) {
  switch (value.type()) {
    case Type::kUndefined:
    case Type::kString:
    case Type::kList:
    case Type::kTuple:
    case Type::kDict:
    case Type::kDictView:
    case Type::kRange:
    case Type::kIterator:
    case Type::kLoop:
      return true;
    default:
      return false;
  }
}

absl::StatusOr<std::shared_ptr<Iterator>> MakeIterator(Runtime& runtime, const Value& value) {
  DS_RETURN_IF_ERROR(runtime.Step());
  switch (value.type()) {
    case Type::kUndefined:
      return IterateItems({}, "generator");
    case Type::kString:
      return std::make_shared<CharacterIterator>(value);
    case Type::kList:
    case Type::kTuple:
      return std::make_shared<ItemIterator>(value, false);
    case Type::kDict:
      return std::make_shared<EntryIterator>(value, DictViewObject::Kind::kKeys, false);
    case Type::kDictView:
      return std::make_shared<EntryIterator>(value.dict_view().dict, value.dict_view().kind, false);
    case Type::kRange:
      return OfRange(value.range(), false);
    case Type::kIterator:
      return std::static_pointer_cast<Iterator>(value.object());
    case Type::kLoop:
      return Wrong("iterating over 'loop' itself is not supported; iterate over the sequence");
    default:
      return Wrong("'", TypeName(value), "' object is not iterable");
  }
}

absl::StatusOr<std::shared_ptr<Iterator>> MakeReversed(Runtime& runtime, const Value& value) {
  DS_RETURN_IF_ERROR(runtime.Step());
  switch (value.type()) {
    case Type::kString: {
      std::vector<Value> items;
      DS_ASSIGN_OR_RETURN(items, Collect(runtime, value));
      std::reverse(items.begin(), items.end());
      return IterateItems(std::move(items), "reversed");
    }
    case Type::kList:
    case Type::kTuple:
      return std::make_shared<ItemIterator>(value, true);
    case Type::kDict:
      return std::make_shared<EntryIterator>(value, DictViewObject::Kind::kKeys, true);
    case Type::kDictView:
      return std::make_shared<EntryIterator>(value.dict_view().dict, value.dict_view().kind, true);
    case Type::kRange:
      return OfRange(value.range(), true);
    default:
      return Wrong("'", TypeName(value), "' object is not reversible");
  }
}

absl::StatusOr<std::vector<Value>> Collect(Runtime& runtime, const Value& value) {
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<Iterator> iterator, MakeIterator(runtime, value));
  std::vector<Value> items;
  Value item;
  while (true) {
    DS_ASSIGN_OR_RETURN(const bool has_next, iterator->Next(runtime, &item));
    if (!has_next) return items;
    if (items.size() == items.capacity()) {
      DS_RETURN_IF_ERROR(runtime.CheckRoom(items.size() * 3 * sizeof(Value)));
    }
    items.push_back(std::move(item));
  }
}

absl::StatusOr<Int> Length(const Value& value) {
  switch (value.type()) {
    case Type::kUndefined:
      return 0;
    case Type::kString:
      return static_cast<Int>(value.string().length);
    case Type::kList:
    case Type::kTuple:
      return static_cast<Int>(value.items().size());
    case Type::kDict:
      return static_cast<Int>(value.dict().entries.size());
    case Type::kDictView:
      return static_cast<Int>(value.dict_view().dict.dict().entries.size());
    case Type::kRange:
      return value.range().Size();
    default:
      return Wrong("object of type '", TypeName(value), "' has no len()");
  }
}

}  // namespace deltaserve::jinja
