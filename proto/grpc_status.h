#pragma once

// absl::Status <-> grpc::Status, with one ErrorDetail in grpc-status-details-bin.

#include <string>

#include "absl/status/status.h"
#include "grpcpp/support/status.h"
#include "proto/error.h"

namespace deltaserve {

// The message is the status's, cut as MakeError does; every failure gets an ErrorDetail, with
// `request_id` where it has none.
grpc::Status ToGrpcStatus(const absl::Status& status, const std::string& request_id);

// The other way; the ErrorDetail, where there is one, becomes the payload.
absl::Status FromGrpcStatus(const grpc::Status& status);

}  // namespace deltaserve
