#pragma once

// Methods of Python's built-in types, as far as templates may call them.

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "router/text/template/runtime.h"
#include "router/text/template/value.h"

namespace deltaserve::jinja {

enum class MethodKind : uint8_t {
  kNone,    // Python has no such method
  kUnsafe,  // it would change the object: refused by the sandbox
  kSafe,
};
MethodKind FindMethod(const Value& object, std::string_view name);

// True for names with two underscores that Python objects have; the sandbox hides them.
bool HasInternalAttribute(const Value& object, std::string_view name);

// self.name(arguments) for a method of kind kSafe. Errors: InvalidArgument where Python raises,
// Unimplemented for methods that chat templates do not use, ResourceExhausted.
absl::StatusOr<Value> CallMethod(Runtime& runtime,
                                 const Value& self,
                                 const std::string& name,
                                 const Arguments& arguments);

using MethodFunction = absl::StatusOr<Value> (*)(Runtime& runtime,
                                                 const Value& self,
                                                 const Arguments& arguments);
// The method of str; null where there is none here.
MethodFunction FindStringMethod(std::string_view name);

}  // namespace deltaserve::jinja
