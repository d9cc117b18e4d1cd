#pragma once

// The expressions below an expression, and the names of a body, in the order of the source.

#include <string_view>

#include "absl/functional/function_ref.h"
#include "router/text/template/ast.h"

namespace deltaserve::jinja {

// Calls `visit` for each direct child that is there.
void ForEachChild(Expr& expr, absl::FunctionRef<void(Expr&)> visit);

// Where `name` is first spoken of in `body`, blocks and macros inside included: true where it is
// read there, false where it is set, or nowhere.
bool ReadsName(const Body& body, std::string_view name);

}  // namespace deltaserve::jinja
