#pragma once

// Early return on a failed absl::Status or absl::StatusOr.

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define DS_RETURN_IF_ERROR(expression)                            \
  do {                                                            \
    if (absl::Status ds_status = (expression); !ds_status.ok()) { \
      return ds_status;                                           \
    }                                                             \
  } while (false)

#define DS_CONCAT_INNER(a, b) a##b
#define DS_CONCAT(a, b) DS_CONCAT_INNER(a, b)

// DS_ASSIGN_OR_RETURN(auto x, F()): the declaration may hold no comma outside parentheses.
// NOLINTBEGIN(bugprone-macro-parentheses): a declaration takes none
#define DS_ASSIGN_OR_RETURN(declaration, expression) \
  DS_ASSIGN_OR_RETURN_INNER(DS_CONCAT(ds_statusor_, __LINE__), declaration, expression)
#define DS_ASSIGN_OR_RETURN_INNER(holder, declaration, expression) \
  auto holder = (expression);                                      \
  if (!holder.ok()) {                                              \
    return std::move(holder).status();                             \
  }                                                                \
  declaration = *std::move(holder)
// NOLINTEND(bugprone-macro-parentheses)
