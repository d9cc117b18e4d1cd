#pragma once

// Errors of requests: an absl::Status whose payload is a deltaserve.v1.ErrorDetail. What is
// returned here reaches the client with its field, value and remedy (see the table of protos in
// docs/architecture.md).

#include <string>

#include "absl/status/status.h"
#include "deltaserve/v1/params.pb.h"

namespace deltaserve {

// Key of the payload.
inline constexpr char kErrorDetailUrl[] = "type.googleapis.com/deltaserve.v1.ErrorDetail";

// The gRPC status code that an ErrorCode travels as, and whether a client may try again.
absl::StatusCode CodeOf(v1::ErrorCode code);
bool IsRetryable(v1::ErrorCode code);

// A status with `detail` attached; detail.code decides the status code and retryable. The message
// should name field, value and remedy: it is what a person reads.
absl::Status MakeError(v1::ErrorDetail detail, const std::string& message);

// The common case: "<field> is <value>: <problem>; <remedy>".
absl::Status InvalidField(const std::string& field,
                          const std::string& value,
                          const std::string& problem,
                          const std::string& remedy);
// "<field> is not supported: <remedy>"
absl::Status UnsupportedField(const std::string& field,
                              const std::string& value,
                              const std::string& remedy);

// The attached detail; one made from the status code where none is attached.
v1::ErrorDetail DetailOf(const absl::Status& status);

}  // namespace deltaserve
