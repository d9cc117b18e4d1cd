#include "router/text/template/functions.h"

#include <cmath>
#include <ctime>
#include <memory>
#include <unordered_map>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_format.h"
#include "kernels/base/status_macros.h"
#include "router/text/template/arguments.h"
#include "router/text/template/cat.h"
#include "router/text/template/iterate.h"
#include "router/text/template/operators.h"
#include "router/text/template/repr.h"

namespace deltaserve::jinja {
namespace {

constexpr char kRaised[] = "deltaserve/raise_exception";
constexpr size_t kEntryValues = 4;  // what an entry of a dict takes, in values
constexpr Int kMostRange = 100000;  // the sandbox's MAX_RANGE

absl::StatusOr<Value> Range(Runtime& runtime, const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("range", arguments, {"", "", ""}, 1));
  for (const Value& value : bound) {
    DS_RETURN_IF_ERROR(IntArgument("range", value, 0).status());
  }
  const bool has_start = !bound[1].IsMissing();
  const Int start = has_start ? bound[0].int_value() : 0;
  const Int stop = has_start ? bound[1].int_value() : bound[0].int_value();
  const Int step = bound[2].IsMissing() ? 1 : bound[2].int_value();
  if (step == 0) return Wrong("range() arg 3 must not be zero");
  constexpr Int kFar = INT64_MAX;
  if (start > kFar || start < -kFar || stop > kFar || stop < -kFar || step > kFar || step < -kFar) {
    return absl::OutOfRangeError("range() of integers beyond 63 bits is not supported");
  }
  DS_ASSIGN_OR_RETURN(Value range, runtime.Range(start, stop, step));
  if (range.range().Size() > kMostRange) {
    return Wrong("Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).");
  }
  return range;
}

// dict(*args, **kwargs): from a mapping or pairs, then the keywords.
absl::StatusOr<std::shared_ptr<DictObject>> MakeDict(Runtime& runtime, const Arguments& arguments) {
  if (arguments.positional.size() > 1) return Wrong("dict expected at most 1 argument");
  auto dict = std::make_shared<DictObject>();
  if (!arguments.positional.empty()) {
    const Value& from = arguments.positional[0];
    if (from.Is(Type::kDict)) {
      DS_RETURN_IF_ERROR(
          runtime.CheckRoom(from.dict().entries.size() * kEntryValues * sizeof(Value)));
      for (const auto& [key, value] : from.dict().entries) {
        DS_RETURN_IF_ERROR(CheckKey(runtime, key));
        dict->Set(key, value);
      }
    } else {
      std::vector<Value> pairs;
      DS_ASSIGN_OR_RETURN(pairs, Collect(runtime, from));
      for (const Value& pair : pairs) {
        std::vector<Value> parts;
        DS_ASSIGN_OR_RETURN(parts, Collect(runtime, pair));
        if (parts.size() != 2) return Wrong("a dict is made of pairs, not of ", parts.size());
        DS_RETURN_IF_ERROR(CheckKey(runtime, parts[0]));
        dict->Set(parts[0], parts[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.keywords) {
    DS_ASSIGN_OR_RETURN(const Value key, runtime.String(name));
    dict->Set(key, value);
  }
  return dict;
}

absl::StatusOr<Value> Dict(Runtime& runtime, const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(std::shared_ptr<DictObject> dict, MakeDict(runtime, arguments));
  return runtime.Dict(std::move(dict));
}

absl::StatusOr<Value> Namespace(Runtime& runtime, const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<DictObject> dict, MakeDict(runtime, arguments));
  DS_ASSIGN_OR_RETURN(Value space, runtime.Namespace());
  for (const auto& [key, value] : dict->entries) {
    if (!key.IsString()) return Wrong("a namespace's names are strings, not ", TypeName(key));
    DS_RETURN_IF_ERROR(SetNamespaceAttribute(runtime, space, key.text(), value));
  }
  return space;
}

absl::StatusOr<Value> RaiseException(Runtime& runtime, const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const std::vector<Value> bound,
                      Bind("raise_exception", arguments, {"message"}, 1));
  DS_ASSIGN_OR_RETURN(std::string message, Text(runtime, bound[0]));
  return RaisedError(std::move(message));
}

// One directive of strftime, with its flags, such as "%-d".
absl::StatusOr<std::string> FormatDirective(const Runtime& runtime,
                                            const std::string& directive,
                                            const std::tm& parts) {
  switch (directive.back()) {
    case '%':
      return "%";
    case 'f':
      return absl::StrFormat("%06d",
                             absl::ToInt64Microseconds(runtime.zone().At(runtime.now()).subsecond));
    case 'z':
    case 'Z':
      return "";  // the time of strftime_now knows no zone
    case 's':
      return Cat(absl::ToUnixSeconds(runtime.now()));
    default:
      break;
  }
  char buffer[256];
  // A leading character tells "nothing" from "does not fit".
  const size_t size = std::strftime(buffer, sizeof(buffer), Cat("x", directive).c_str(), &parts);
  if (size == 0) return Wrong("strftime_now: ", directive, " is too long");
  return std::string(buffer + 1, size - 1);
}

absl::StatusOr<Value> StrftimeNow(Runtime& runtime, const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const std::vector<Value> bound,
                      Bind("strftime_now", arguments, {"format"}, 1));
  DS_RETURN_IF_ERROR(ExpectString("strftime_now", bound[0]));
  const std::string& format = bound[0].text();
  const std::tm parts = absl::ToTM(runtime.now(), runtime.zone());
  Buffer buffer(&runtime);
  for (size_t at = 0; at < format.size();) {
    const size_t percent = format.find('%', at);
    DS_RETURN_IF_ERROR(buffer.Append(std::string_view(format).substr(at, percent - at)));
    if (percent == std::string::npos) break;
    size_t end = format.find_first_not_of("-_0^#EO123456789", percent + 1);
    if (end == std::string::npos) {
      DS_RETURN_IF_ERROR(buffer.Append(std::string_view(format).substr(percent)));
      break;
    }
    if (end - percent > 8) return Wrong("strftime_now: a directive is too long");
    ++end;
    DS_ASSIGN_OR_RETURN(const std::string text,
                        FormatDirective(runtime, format.substr(percent, end - percent), parts));
    DS_RETURN_IF_ERROR(buffer.Append(text));
    at = end;
  }
  return runtime.String(buffer.Take());
}

// A function of jinja2 that is left out, by its first letter.
template <char kLetter>
absl::StatusOr<Value> Unsupported(Runtime&, const Arguments&) {
  return absl::UnimplementedError(Cat("'",
                                      kLetter == 'c'   ? "cycler"
                                      : kLetter == 'j' ? "joiner"
                                                       : "lipsum",
                                      "' is not supported in chat templates"));
}

}  // namespace

absl::Status RaisedError(std::string message) {
  absl::Status status = absl::InvalidArgumentError(message);
  status.SetPayload(kRaised, absl::Cord(std::move(message)));
  return status;
}

std::optional<std::string> RaisedMessage(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kRaised);
  if (!payload.has_value()) return std::nullopt;
  return std::string(*payload);
}

absl::Status SetNamespaceAttribute(Runtime& runtime,
                                   const Value& name_space,
                                   const std::string& name,
                                   const Value& value) {
  if (name.starts_with("_")) {
    return Wrong("a namespace cannot hold the name '", name, "'; use one without '_' in front");
  }
  NamespaceObject& space = name_space.name_space();
  DS_RETURN_IF_ERROR(runtime.Step(static_cast<int64_t>(space.attributes.size() / 16 + 1)));
  if (space.Find(name) == nullptr) {
    // A namespace lives as long as the rendering.
    const size_t bytes = kEntryValues * sizeof(Value) + name.size();
    DS_RETURN_IF_ERROR(runtime.CheckRoom(bytes));
    runtime.Reserve(bytes);
  }
  space.Set(name, value);
  return absl::OkStatus();
}

absl::StatusOr<Value> FindGlobal(Runtime& runtime, std::string_view name) {
  static const auto* const kFunctions = new std::unordered_map<std::string_view, FunctionPointer>{
      {"range", Range},
      {"dict", Dict},
      {"namespace", Namespace},
      {"raise_exception", RaiseException},
      {"strftime_now", StrftimeNow},
      {"cycler", Unsupported<'c'>},
      {"joiner", Unsupported<'j'>},
      {"lipsum", Unsupported<'l'>},
  };
  if (const auto found = kFunctions->find(name); found != kFunctions->end()) {
    auto function = std::make_shared<FunctionObject>();
    function->name = name;
    function->call = found->second;
    return runtime.Adopt(Type::kFunction, std::move(function), sizeof(FunctionObject), 0);
  }
  return Value();
}

}  // namespace deltaserve::jinja
