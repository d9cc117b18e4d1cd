#pragma once

// Finds out, once, which name of a template means which slot of which scope. Jinja's scopes are
// static: a name that a block sets anywhere belongs to the block from its first line on, a name
// that it only reads belongs to a block further out or to the variables.

#include <string>

#include "absl/status/status.h"
#include "router/text/template/ast.h"

namespace deltaserve::jinja {

// Fills every reference and scope of `body`, whose own scope is `*top`, and looks up filters and
// tests. Errors: InvalidArgument with position for an unknown filter or test outside conditions, a
// `break` outside a loop, an assignment to `loop`; Unimplemented for a filter left out on purpose.
absl::Status ResolveNames(const std::string& name, Body* body, Scope* top);

}  // namespace deltaserve::jinja
