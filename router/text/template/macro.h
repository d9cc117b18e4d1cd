#pragma once

// Macros as values, for code that does not run them.

#include <memory>
#include <string>

#include "router/text/template/ast.h"
#include "router/text/template/value.h"

namespace deltaserve::jinja {

// The names of one scope at run time. `parent` is the scope around it in the template.
struct Frame {
  const Scope* scope = nullptr;
  std::shared_ptr<Frame> parent;
  std::vector<Value> slots;
  bool is_captured = false;  // a macro holds it
};

struct MacroObject : Object {
  const MacroStatement* statement = nullptr;
  std::shared_ptr<Frame> closure;
};

inline const std::string& MacroName(const Value& macro) {
  return static_cast<const MacroObject&>(*macro.object()).statement->name;
}

}  // namespace deltaserve::jinja
