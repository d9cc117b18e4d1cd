#include "router/text/template/template.h"

#include <utility>

#include "kernels/base/status_macros.h"
#include "router/text/template/interpreter.h"
#include "router/text/template/json.h"
#include "router/text/template/lexer.h"
#include "router/text/template/parser.h"
#include "router/text/template/scope.h"

namespace deltaserve::jinja {

absl::StatusOr<std::unique_ptr<Template>> Template::Parse(std::string_view source,
                                                          const std::string& name) {
  std::unique_ptr<Template> result(new Template(name));
  std::vector<Token> tokens;
  DS_ASSIGN_OR_RETURN(tokens, Tokenize(source, name));
  DS_ASSIGN_OR_RETURN(result->body_, ParseBody(std::move(tokens), name));
  DS_RETURN_IF_ERROR(ResolveNames(name, &result->body_, &result->scope_));
  return result;
}

absl::StatusOr<std::string> Template::Render(const Context& context, const Limits& limits) const {
  Runtime runtime(limits, context.now, context.zone);
  if (!context.variables.is_object()) return Wrong(name_, ": the variables are not an object");
  const absl::StatusOr<Value> variables = FromJson(runtime, context.variables);
  if (!variables.ok()) {
    return absl::Status(variables.status().code(),
                        Cat(name_, ": ", std::string(variables.status().message())));
  }
  return Interpreter(&runtime, *variables, name_).Run(body_, scope_);
}

}  // namespace deltaserve::jinja
