#pragma once

// Macros as values, for code that does not run them, and the names that they see.

#include <memory>
#include <string>

#include "router/text/template/ast.h"
#include "router/text/template/runtime.h"
#include "router/text/template/value.h"

namespace deltaserve::jinja {

// The names of one scope at run time. `parent` is the scope around it in the template. It counts as
// memory of `runtime` for as long as it lives.
struct Frame {
  Frame(Runtime* r, const Scope& s, std::shared_ptr<Frame> p)
      : runtime(r), scope(&s), parent(std::move(p)) {
    runtime->Reserve(Bytes(s));
  }
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;
  ~Frame() { runtime->Release(Bytes(*scope)); }

  static size_t Bytes(const Scope& scope) {
    return sizeof(Frame) + scope.slots.size() * sizeof(Value);
  }

  Runtime* const runtime;
  const Scope* const scope;
  const std::shared_ptr<Frame> parent;
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
