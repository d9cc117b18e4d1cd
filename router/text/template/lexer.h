#pragma once

// Cuts a template into tokens as jinja2 does with trim_blocks and lstrip_blocks on.

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "router/text/template/ast.h"
#include "router/text/template/value.h"

namespace deltaserve::jinja {

enum class TokenKind : uint8_t {
  kText,
  kBlockBegin,
  kBlockEnd,
  kPrintBegin,
  kPrintEnd,
  kName,
  kString,
  kNumber,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  Position at;
  std::string text;  // of a string, without quotes and escapes
  Value number;
};

// "NAME:LINE:COLUMN: what".
absl::Status ErrorAt(const std::string& name, Position at, std::string_view what);
// The same as ResourceExhausted, for a template beyond the bounds of nesting.h.
absl::Status BoundAt(const std::string& name, Position at, std::string_view what);

// All tokens of `source`, the last one kEnd. Errors: InvalidArgument with `name` and position,
// Unimplemented for an escape that is left out, ResourceExhausted past a bound.
absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source, const std::string& name);

}  // namespace deltaserve::jinja
