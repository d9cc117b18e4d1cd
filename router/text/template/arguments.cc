#include "router/text/template/arguments.h"

#include <algorithm>

#include "kernels/base/status_macros.h"
#include "router/text/template/runtime.h"

namespace deltaserve::jinja {

absl::StatusOr<std::vector<Value>> Bind(std::string_view function,
                                        const Arguments& arguments,
                                        const std::vector<std::string_view>& names,
                                        size_t num_required) {
  if (arguments.positional.size() > names.size()) {
    return Wrong(function, "() takes at most ", names.size(), " arguments (",
                 arguments.positional.size(), " given)");
  }
  std::vector<Value> bound = arguments.positional;
  bound.resize(names.size());
  for (const auto& [name, value] : arguments.keywords) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (name.empty() || found == names.end()) {
      return Wrong(function, "() got an unexpected keyword argument '", name, "'");
    }
    Value& place = bound[static_cast<size_t>(found - names.begin())];
    if (!place.IsMissing()) {
      return Wrong(function, "() got multiple values for argument '", name, "'");
    }
    place = value;
  }
  for (size_t i = 0; i < num_required; ++i) {
    if (bound[i].IsMissing()) {
      return Wrong(function, "() misses argument ", i + 1, names[i].empty() ? "" : " ", names[i]);
    }
  }
  return bound;
}

absl::StatusOr<Int> IntArgument(std::string_view function,
                                const Value& value,
                                Int otherwise,
                                bool none_counts) {
  if (value.IsMissing() || (none_counts && value.IsNone())) return otherwise;
  if (value.IsIntegral()) return value.int_value();
  return Wrong(function, "(): '", TypeName(value), "' object cannot be interpreted as an integer");
}

absl::Status ExpectString(std::string_view function, const Value& value) {
  if (value.IsString()) return absl::OkStatus();
  return Wrong(function, "(): the argument must be str, not ", TypeName(value));
}

}  // namespace deltaserve::jinja
