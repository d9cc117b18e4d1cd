#include "proto/grpc_status.h"

#include "absl/strings/cord.h"
#include "deltaserve/v1/rpc_status.pb.h"

namespace deltaserve {

grpc::Status ToGrpcStatus(const absl::Status& status, const std::string& request_id) {
  if (status.ok()) return grpc::Status::OK;
  v1::ErrorDetail detail = DetailOf(status);
  if (detail.request_id().empty()) {
    detail.set_request_id(ErrorText(request_id, kMostErrorValueBytes));
  }
  const std::string message = ErrorText(std::string(status.message()), kMostErrorMessageBytes);
  v1::RpcStatus rpc;
  rpc.set_code(static_cast<int32_t>(status.code()));
  rpc.set_message(message);
  rpc.add_details()->PackFrom(detail);
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), message,
                      rpc.SerializeAsString());
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  v1::RpcStatus rpc;
  if (!rpc.ParseFromString(status.error_details())) return result;
  for (const google::protobuf::Any& any : rpc.details()) {
    v1::ErrorDetail detail;
    if (any.UnpackTo(&detail)) {
      result.SetPayload(kErrorDetailUrl, absl::Cord(detail.SerializeAsString()));
      break;
    }
  }
  return result;
}

}  // namespace deltaserve
