#pragma once

// Chat templates: Jinja as `transformers` configures it (jinja2's immutable sandbox, trim_blocks,
// lstrip_blocks, loop controls, the tag `generation`, its tojson, raise_exception, strftime_now).

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "router/text/template/ast.h"
#include "router/text/template/limits.h"

namespace deltaserve::jinja {

// A compiled template. Immutable after Parse; any thread may Render.
class Template {
 public:
  // What a rendering sees.
  struct Context {
    nlohmann::ordered_json variables = nlohmann::ordered_json::object();
    absl::Time now;  // for strftime_now, told in `zone`
    absl::TimeZone zone = absl::UTCTimeZone();
  };

  // Errors: InvalidArgument for what jinja2 refuses to compile, Unimplemented for constructs that
  // no chat template uses (include, block, ...), ResourceExhausted for a source beyond the bounds
  // of nesting.h; all "NAME:LINE:COLUMN: ...".
  static absl::StatusOr<std::unique_ptr<Template>> Parse(std::string_view source,
                                                         const std::string& name);

  // The text. Errors, with position: InvalidArgument where the template or its variables are wrong
  // (RaisedMessage tells the template's own refusals), OutOfRange for integers beyond 127 bits,
  // Unimplemented as in Parse, ResourceExhausted past a limit. `context.variables` is an object.
  absl::StatusOr<std::string> Render(const Context& context, const Limits& limits) const;

 private:
  explicit Template(const std::string& name) : name_(name) {}

  const std::string name_;
  Body body_;
  Scope scope_;
};

// Where Render failed because the template called raise_exception: the message as it wrote it.
std::optional<std::string> RaisedMessage(const absl::Status& status);

}  // namespace deltaserve::jinja
