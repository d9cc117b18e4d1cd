// Filters of sequences and mappings (filter_functions.h).

#include <algorithm>
#include <utility>

#include "absl/strings/str_split.h"
#include "kernels/base/status_macros.h"
#include "router/text/template/arguments.h"
#include "router/text/template/filter_functions.h"
#include "router/text/template/iterate.h"
#include "router/text/template/lookups.h"
#include "router/text/template/operators.h"
#include "router/text/template/repr.h"
#include "router/text/template/text.h"

namespace deltaserve::jinja {
namespace {

using Bound = std::vector<Value>;

// A generator over `items`.
absl::StatusOr<Value> Generated(Runtime& runtime, std::vector<Value> items) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  const size_t bytes = items.capacity() * sizeof(Value);
  return runtime.Generator(IterateItems(std::move(items), "generator"), depth, bytes);
}

// A generator that does nothing but fail, as one in Python does once it is read.
absl::StatusOr<Value> FailLater(Runtime& runtime, const absl::Status& status) {
  return runtime.Generator(
      IterateFunction([status](Runtime&, Value*) -> absl::StatusOr<bool> { return status; }), 0);
}

// The key of sort(attribute="a.b,c"): the values of all paths in a list.
absl::StatusOr<Value> PathsKey(Runtime& runtime,
                               const Value& item,
                               const std::vector<std::vector<Value>>& paths,
                               bool is_case_sensitive) {
  std::vector<Value> parts;
  for (const auto& path : paths) {
    DS_ASSIGN_OR_RETURN(const Value value, FollowPath(runtime, item, path));
    DS_ASSIGN_OR_RETURN(Value key, SortKey(runtime, value, is_case_sensitive));
    parts.push_back(std::move(key));
  }
  return runtime.List(std::move(parts));
}

absl::StatusOr<Value> Group(Runtime& runtime, const Value& key, std::vector<Value> items) {
  DS_ASSIGN_OR_RETURN(Value list, runtime.List(std::move(items)));
  auto tuple = std::make_shared<ListObject>();
  const int depth = std::max(key.depth(), list.depth()) + 1;
  tuple->items = {key, std::move(list)};
  tuple->is_group = true;
  return runtime.Adopt(Type::kTuple, std::move(tuple), 2 * sizeof(Value), depth);
}

}  // namespace

absl::StatusOr<Value> SortKey(Runtime& runtime, const Value& value, bool is_case_sensitive) {
  if (is_case_sensitive || !value.IsString()) return value;
  return LowerFilter(runtime, value, {});
}

absl::StatusOr<Value> AttributeFilter(Runtime& runtime,
                                      const Value& value,
                                      const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound, Bind("attr", arguments, {"name"}, 1));
  DS_RETURN_IF_ERROR(ExpectString("attr", bound[0]));
  return GetAttributeOnly(runtime, value, bound[0].text());
}

absl::StatusOr<Value> DefaultFilter(Runtime& runtime,
                                    const Value& value,
                                    const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound,
                      Bind("default", arguments, {"default_value", "boolean"}, 0));
  if (!value.IsUndefined() && !(Truth(bound[1]) && !Truth(value))) return value;
  if (bound[0].IsMissing()) return runtime.String("");
  return bound[0];
}

absl::StatusOr<Value> LengthFilter(Runtime&, const Value& value, const Arguments& arguments) {
  DS_RETURN_IF_ERROR(Bind("length", arguments, {}, 0).status());
  DS_ASSIGN_OR_RETURN(const Int length, Length(value));
  return Value::Integer(length);
}

absl::StatusOr<Value> ListFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  DS_RETURN_IF_ERROR(Bind("list", arguments, {}, 0).status());
  std::vector<Value> items;
  DS_ASSIGN_OR_RETURN(items, Collect(runtime, value));
  return runtime.List(std::move(items));
}

absl::StatusOr<Value> ItemsFilter(Runtime& runtime,
                                  const Value& value,
                                  const Arguments& arguments) {
  DS_RETURN_IF_ERROR(Bind("items", arguments, {}, 0).status());
  if (value.IsUndefined()) return Generated(runtime, {});
  if (!value.Is(Type::kDict)) {
    return FailLater(runtime, Wrong("Can only get item pairs from a mapping."));
  }
  DS_ASSIGN_OR_RETURN(const Value view, runtime.View(value, DictViewObject::Kind::kItems));
  DS_ASSIGN_OR_RETURN(std::shared_ptr<Iterator> items, MakeIterator(runtime, view));
  return runtime.Generator(
      IterateFunction([items](Runtime& r, Value* item) { return items->Next(r, item); }),
      value.depth());
}

absl::StatusOr<Value> FirstFilter(Runtime& runtime,
                                  const Value& value,
                                  const Arguments& arguments) {
  DS_RETURN_IF_ERROR(Bind("first", arguments, {}, 0).status());
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<Iterator> items, MakeIterator(runtime, value));
  Value first;
  DS_ASSIGN_OR_RETURN(const bool has_any, items->Next(runtime, &first));
  return has_any ? first : Value::Undefined("No first item, sequence was empty.");
}

absl::StatusOr<Value> LastFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  DS_RETURN_IF_ERROR(Bind("last", arguments, {}, 0).status());
  if (value.IsUndefined()) return Value::Undefined("No last item, sequence was empty.");
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<Iterator> items, MakeReversed(runtime, value));
  Value last;
  DS_ASSIGN_OR_RETURN(const bool has_any, items->Next(runtime, &last));
  return has_any ? last : Value::Undefined("No last item, sequence was empty.");
}

absl::StatusOr<Value> ReverseFilter(Runtime& runtime,
                                    const Value& value,
                                    const Arguments& arguments) {
  DS_RETURN_IF_ERROR(Bind("reverse", arguments, {}, 0).status());
  if (value.IsString()) {
    return GetSlice(runtime, value, Value(), Value(), Value::Integer(-1));
  }
  if (value.IsUndefined() || value.Is(Type::kIterator)) {
    std::vector<Value> items;
    DS_ASSIGN_OR_RETURN(items, Collect(runtime, value));
    std::reverse(items.begin(), items.end());
    return runtime.List(std::move(items));
  }
  if (!IsIterable(value)) return Wrong("argument must be iterable");
  DS_ASSIGN_OR_RETURN(std::shared_ptr<Iterator> items, MakeReversed(runtime, value));
  return runtime.Generator(std::move(items), value.depth());
}

absl::StatusOr<Value> JoinFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound, Bind("join", arguments, {"d", "attribute"}, 0));
  std::string separator;
  if (!bound[0].IsMissing()) {
    DS_ASSIGN_OR_RETURN(separator, Text(runtime, bound[0]));
  }
  std::vector<Value> path;
  DS_ASSIGN_OR_RETURN(path, ParseAttributePath(runtime, bound[1]));
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<Iterator> items, MakeIterator(runtime, value));
  Buffer buffer(&runtime);
  Value item;
  for (bool is_first = true;; is_first = false) {
    DS_ASSIGN_OR_RETURN(const bool has_next, items->Next(runtime, &item));
    if (!has_next) return runtime.String(buffer.Take());
    if (!is_first) DS_RETURN_IF_ERROR(buffer.Append(separator));
    DS_ASSIGN_OR_RETURN(const Value part, FollowPath(runtime, item, path));
    DS_RETURN_IF_ERROR(AppendText(runtime, part, &buffer));
  }
}

absl::StatusOr<Value> DictSortFilter(Runtime& runtime,
                                     const Value& value,
                                     const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound,
                      Bind("dictsort", arguments, {"case_sensitive", "by", "reverse"}, 0));
  size_t place = 0;
  if (!bound[1].IsMissing()) {
    const bool is_text = bound[1].IsString();
    if (!is_text || (bound[1].text() != "key" && bound[1].text() != "value")) {
      return Wrong("You can only sort by either \"key\" or \"value\"");
    }
    place = bound[1].text() == "key" ? 0 : 1;
  }
  if (value.IsUndefined()) return UndefinedUse(value);
  if (!value.Is(Type::kDict)) {
    return Wrong("'", TypeName(value), "' object has no attribute 'items'");
  }
  DS_ASSIGN_OR_RETURN(const Value view, runtime.View(value, DictViewObject::Kind::kItems));
  std::vector<Value> items;
  DS_ASSIGN_OR_RETURN(items, Collect(runtime, view));
  std::vector<Value> keys;
  for (const Value& item : items) {
    DS_ASSIGN_OR_RETURN(Value key, SortKey(runtime, item.items()[place], Truth(bound[0])));
    keys.push_back(std::move(key));
  }
  DS_RETURN_IF_ERROR(SortByKeys(runtime, keys, Truth(bound[2]), &items));
  return runtime.List(std::move(items));
}

absl::StatusOr<Value> SortFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound,
                      Bind("sort", arguments, {"reverse", "case_sensitive", "attribute"}, 0));
  std::vector<std::vector<Value>> paths;
  if (bound[2].IsString()) {
    DS_RETURN_IF_ERROR(runtime.CheckRoom(bound[2].text().size() * sizeof(Value) * 2));
    for (const std::string& part : std::vector<std::string>(absl::StrSplit(bound[2].text(), ','))) {
      DS_ASSIGN_OR_RETURN(paths.emplace_back(), ParseAttributePath(runtime, Value::Constant(part)));
    }
  } else {
    DS_ASSIGN_OR_RETURN(paths.emplace_back(), ParseAttributePath(runtime, bound[2]));
  }
  std::vector<Value> items;
  DS_ASSIGN_OR_RETURN(items, Collect(runtime, value));
  std::vector<Value> keys;
  for (const Value& item : items) {
    DS_ASSIGN_OR_RETURN(Value key, PathsKey(runtime, item, paths, Truth(bound[1])));
    keys.push_back(std::move(key));
  }
  DS_RETURN_IF_ERROR(SortByKeys(runtime, keys, Truth(bound[0]), &items));
  return runtime.List(std::move(items));
}

absl::StatusOr<Value> UniqueFilter(Runtime& runtime,
                                   const Value& value,
                                   const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound,
                      Bind("unique", arguments, {"case_sensitive", "attribute"}, 0));
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<Iterator> items, MakeIterator(runtime, value));
  std::vector<Value> path;
  DS_ASSIGN_OR_RETURN(path, ParseAttributePath(runtime, bound[1]));
  const bool is_case_sensitive = Truth(bound[0]);
  const auto seen = std::make_shared<DictObject>();
  return runtime.Generator(
      IterateFunction([=](Runtime& r, Value* item) -> absl::StatusOr<bool> {
        while (true) {
          DS_ASSIGN_OR_RETURN(const bool has_next, items->Next(r, item));
          if (!has_next) return false;
          DS_ASSIGN_OR_RETURN(const Value part, FollowPath(r, *item, path));
          DS_ASSIGN_OR_RETURN(const Value key, SortKey(r, part, is_case_sensitive));
          DS_RETURN_IF_ERROR(CheckKey(r, key));
          if (seen->Find(key) != nullptr) continue;
          DS_RETURN_IF_ERROR(r.CheckRoom(seen->entries.size() * 8 * sizeof(Value)));
          seen->Set(key, Value::None());
          return true;
        }
      }),
      value.depth());
}

absl::StatusOr<Value> GroupByFilter(Runtime& runtime,
                                    const Value& value,
                                    const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound,
                      Bind("groupby", arguments, {"attribute", "default", "case_sensitive"}, 1));
  std::vector<Value> path;
  DS_ASSIGN_OR_RETURN(path, ParseAttributePath(runtime, bound[0]));
  std::vector<Value> items;
  DS_ASSIGN_OR_RETURN(items, Collect(runtime, value));
  std::vector<Value> keys;
  std::vector<Value> indices;
  for (size_t i = 0; i < items.size(); ++i) {
    DS_ASSIGN_OR_RETURN(const Value part, FollowPath(runtime, items[i], path, bound[1]));
    DS_ASSIGN_OR_RETURN(Value key, SortKey(runtime, part, Truth(bound[2])));
    keys.push_back(std::move(key));
    indices.push_back(Value::Integer(static_cast<Int>(i)));
  }
  DS_RETURN_IF_ERROR(SortByKeys(runtime, keys, false, &indices));
  std::vector<Value> groups;
  for (size_t i = 0; i < indices.size();) {
    const auto first = static_cast<size_t>(indices[i].int_value());
    std::vector<Value> members;
    for (; i < indices.size(); ++i) {
      const auto index = static_cast<size_t>(indices[i].int_value());
      DS_ASSIGN_OR_RETURN(const bool is_same, Equals(runtime, keys[index], keys[first]));
      if (!is_same) break;
      members.push_back(items[index]);
    }
    DS_ASSIGN_OR_RETURN(const Value name, FollowPath(runtime, items[first], path, bound[1]));
    DS_ASSIGN_OR_RETURN(Value group, Group(runtime, name, std::move(members)));
    groups.push_back(std::move(group));
  }
  return runtime.List(std::move(groups));
}

absl::StatusOr<Value> BatchFilter(Runtime& runtime,
                                  const Value& value,
                                  const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound, Bind("batch", arguments, {"linecount", "fill_with"}, 1));
  DS_ASSIGN_OR_RETURN(const Int size, IntArgument("batch", bound[0], 0));
  std::vector<Value> items;
  DS_ASSIGN_OR_RETURN(items, Collect(runtime, value));
  std::vector<Value> batches;
  std::vector<Value> batch;
  const auto finish = [&]() -> absl::Status {
    DS_ASSIGN_OR_RETURN(Value list, runtime.List(std::exchange(batch, {})));
    batches.push_back(std::move(list));
    return absl::OkStatus();
  };
  for (const Value& item : items) {
    if (static_cast<Int>(batch.size()) == size) DS_RETURN_IF_ERROR(finish());
    batch.push_back(item);
  }
  if (!batch.empty()) {
    const bool is_filled = !bound[1].IsMissing() && !bound[1].IsNone();
    const Int owed = is_filled ? size - static_cast<Int>(batch.size()) : 0;
    if (owed > 0) {
      DS_RETURN_IF_ERROR(runtime.CheckRoom(
          owed > INT32_MAX ? SIZE_MAX : static_cast<size_t>(owed) * sizeof(Value)));
      batch.insert(batch.end(), static_cast<size_t>(owed), bound[1]);
    }
    DS_RETURN_IF_ERROR(finish());
  }
  return Generated(runtime, std::move(batches));
}

absl::StatusOr<Value> SliceFilter(Runtime& runtime,
                                  const Value& value,
                                  const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const Bound bound, Bind("slice", arguments, {"slices", "fill_with"}, 1));
  DS_ASSIGN_OR_RETURN(const Int slices, IntArgument("slice", bound[0], 0));
  std::vector<Value> items;
  DS_ASSIGN_OR_RETURN(items, Collect(runtime, value));
  if (slices == 0) return FailLater(runtime, Wrong("integer division or modulo by zero"));
  if (slices < 0) return Generated(runtime, {});
  const auto size = static_cast<Int>(items.size());
  const Int each = size / slices;
  const Int with_extra = size % slices;
  std::vector<Value> result;
  Int at = 0;
  for (Int i = 0; i < slices; ++i) {
    const Int count = each + (i < with_extra ? 1 : 0);
    std::vector<Value> part(items.begin() + static_cast<ptrdiff_t>(at),
                            items.begin() + static_cast<ptrdiff_t>(at + count));
    at += count;
    const bool is_filled = !bound[1].IsMissing() && !bound[1].IsNone();
    if (is_filled && i >= with_extra) part.push_back(bound[1]);
    DS_RETURN_IF_ERROR(runtime.Step());
    DS_ASSIGN_OR_RETURN(Value list, runtime.List(std::move(part)));
    result.push_back(std::move(list));
  }
  return Generated(runtime, std::move(result));
}

}  // namespace deltaserve::jinja
