// Filters that ask another filter or test about each item (filter_functions.h).

#include <algorithm>
#include <utility>

#include "kernels/base/status_macros.h"
#include "router/text/template/arguments.h"
#include "router/text/template/filter_functions.h"
#include "router/text/template/filters.h"
#include "router/text/template/iterate.h"
#include "router/text/template/lookups.h"
#include "router/text/template/repr.h"
#include "router/text/template/tests.h"

namespace deltaserve::jinja {
namespace {

using ItemFunction = std::function<absl::StatusOr<Value>(Runtime&, const Value&)>;
using ItemTest = std::function<absl::StatusOr<bool>(Runtime&, const Value&)>;

// The arguments after the first `count` positional ones.
Arguments Rest(const Arguments& arguments, size_t count) {
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin(),
                        rest.positional.begin() + static_cast<ptrdiff_t>(count));
  return rest;
}

absl::StatusOr<ItemFunction> PrepareMap(Runtime& runtime, const Arguments& arguments) {
  Value attribute;
  Value otherwise;
  std::string unexpected;
  for (const auto& [name, value] : arguments.keywords) {
    if (name == "attribute") {
      attribute = value;
    } else if (name == "default") {
      otherwise = value;
    } else if (unexpected.empty()) {
      unexpected = name;
    }
  }
  if (arguments.positional.empty() && !attribute.IsMissing()) {
    if (!unexpected.empty()) return Wrong("Unexpected keyword argument '", unexpected, "'");
    std::vector<Value> path;
    DS_ASSIGN_OR_RETURN(path, ParseAttributePath(runtime, attribute));
    return [path, otherwise](Runtime& r, const Value& item) {
      return FollowPath(r, item, path, otherwise);
    };
  }
  if (arguments.positional.empty()) return Wrong("map requires a filter argument");
  const Value& name = arguments.positional[0];
  const FilterFunction filter = name.IsString() ? FindFilter(name.text()) : nullptr;
  if (filter == nullptr) {
    return Wrong("No filter named '", name.IsString() ? name.text() : TypeName(name), "'.");
  }
  return [filter, rest = Rest(arguments, 1)](Runtime& r, const Value& item) {
    return filter(r, item, rest);
  };
}

absl::StatusOr<ItemTest> PrepareTest(Runtime& runtime,
                                     const Arguments& arguments,
                                     bool by_attribute) {
  const size_t offset = by_attribute ? 1 : 0;
  if (arguments.positional.size() < offset) return Wrong("Missing parameter for attribute name");
  std::vector<Value> path;
  if (by_attribute) {
    DS_ASSIGN_OR_RETURN(path, ParseAttributePath(runtime, arguments.positional[0]));
  }
  if (arguments.positional.size() == offset) {
    return [path](Runtime& r, const Value& item) -> absl::StatusOr<bool> {
      DS_ASSIGN_OR_RETURN(const Value value, FollowPath(r, item, path));
      return Truth(value);
    };
  }
  const Value& name = arguments.positional[offset];
  const TestFunction test = name.IsString() ? FindTest(name.text()) : nullptr;
  return [path, test, name, rest = Rest(arguments, offset + 1)](
             Runtime& r, const Value& item) -> absl::StatusOr<bool> {
    DS_ASSIGN_OR_RETURN(const Value value, FollowPath(r, item, path));
    if (test == nullptr) {
      return Wrong("No test named '", name.IsString() ? name.text() : TypeName(name), "'.");
    }
    return test(r, value, rest);
  };
}

// A generator that prepares a function from `arguments` when it is first read, and only if `value`
// is true.
template <typename Prepared, typename Prepare, typename Use>
absl::StatusOr<Value> Lazily(
    Runtime& runtime, const Value& value, const Arguments& arguments, Prepare prepare, Use use) {
  struct State {
    bool is_ready = false;
    Prepared function;
    std::shared_ptr<Iterator> items;
  };
  const auto state = std::make_shared<State>();
  int depth = value.depth();
  for (const Value& held : arguments.positional) depth = std::max(depth, held.depth());
  for (const auto& [name, held] : arguments.keywords) depth = std::max(depth, held.depth());
  // The arguments are held twice: to prepare the function, and by it.
  const size_t bytes =
      2 * sizeof(Value) * (arguments.positional.size() + 2 * arguments.keywords.size());
  return runtime.Generator(IterateFunction([=](Runtime& r, Value* item) -> absl::StatusOr<bool> {
                             if (!Truth(value)) return false;
                             if (!state->is_ready) {
                               DS_ASSIGN_OR_RETURN(state->function, prepare(r));
                               DS_ASSIGN_OR_RETURN(state->items, MakeIterator(r, value));
                               state->is_ready = true;
                             }
                             return use(r, state->function, *state->items, item);
                           }),
                           depth, bytes);
}

absl::StatusOr<Value> Chosen(Runtime& runtime,
                             const Value& value,
                             const Arguments& arguments,
                             bool by_attribute,
                             bool wanted) {
  return Lazily<ItemTest>(
      runtime, value, arguments,
      [=](Runtime& r) { return PrepareTest(r, arguments, by_attribute); },
      [=](Runtime& r, const ItemTest& test, Iterator& items, Value* item) -> absl::StatusOr<bool> {
        while (true) {
          DS_ASSIGN_OR_RETURN(const bool has_next, items.Next(r, item));
          if (!has_next) return false;
          DS_ASSIGN_OR_RETURN(const bool holds, test(r, *item));
          if (holds == wanted) return true;
        }
      });
}

}  // namespace

absl::StatusOr<Value> MapFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  return Lazily<ItemFunction>(
      runtime, value, arguments, [=](Runtime& r) { return PrepareMap(r, arguments); },
      [](Runtime& r, const ItemFunction& function, Iterator& items,
         Value* item) -> absl::StatusOr<bool> {
        DS_ASSIGN_OR_RETURN(const bool has_next, items.Next(r, item));
        if (!has_next) return false;
        DS_ASSIGN_OR_RETURN(*item, function(r, *item));
        return true;
      });
}

absl::StatusOr<Value> SelectFilter(Runtime& runtime,
                                   const Value& value,
                                   const Arguments& arguments) {
  return Chosen(runtime, value, arguments, false, true);
}
absl::StatusOr<Value> RejectFilter(Runtime& runtime,
                                   const Value& value,
                                   const Arguments& arguments) {
  return Chosen(runtime, value, arguments, false, false);
}
absl::StatusOr<Value> SelectAttributeFilter(Runtime& runtime,
                                            const Value& value,
                                            const Arguments& arguments) {
  return Chosen(runtime, value, arguments, true, true);
}
absl::StatusOr<Value> RejectAttributeFilter(Runtime& runtime,
                                            const Value& value,
                                            const Arguments& arguments) {
  return Chosen(runtime, value, arguments, true, false);
}

}  // namespace deltaserve::jinja
