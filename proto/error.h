#pragma once

// Errors of requests: an absl::Status whose payload is a deltaserve.v1.ErrorDetail. What is
// returned here reaches the client with its field, value and remedy (see the table of protos in
// docs/architecture.md).

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "deltaserve/v1/params.pb.h"

namespace deltaserve {

// Key of the payload.
inline constexpr char kErrorDetailUrl[] = "type.googleapis.com/deltaserve.v1.ErrorDetail";

// The gRPC status code that an ErrorCode travels as, and whether a client may try again.
absl::StatusCode CodeOf(v1::ErrorCode code);
bool IsRetryable(v1::ErrorCode code);

// Most bytes of an error's parts, however long what the client sent: all of them must fit into the
// 8 KiB of metadata that any gRPC client takes, the message twice, there with three bytes for one.
inline constexpr size_t kMostErrorValueBytes = 200;  // of the names of a field, world, request too
inline constexpr size_t kMostErrorTextBytes = 400;   // a problem, a remedy
inline constexpr size_t kMostErrorMessageBytes = 1250;

// `text` in at most `most_bytes`, of 3 or more: cut between two characters, with "..." behind, and
// U+FFFD for bytes that are not UTF-8.
std::string ErrorText(std::string_view text, size_t most_bytes);

// A status with `detail` attached; detail.code decides the status code and retryable. The message
// should name field, value and remedy: it is what a person reads. All texts are cut to the bounds
// above.
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
