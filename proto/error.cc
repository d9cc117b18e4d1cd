#include "proto/error.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace deltaserve {

absl::StatusCode CodeOf(v1::ErrorCode code) {
  switch (code) {
    case v1::ERROR_CODE_INVALID_FIELD:
    case v1::ERROR_CODE_CONTEXT_TOO_LONG:
      return absl::StatusCode::kInvalidArgument;
    case v1::ERROR_CODE_UNSUPPORTED:
      return absl::StatusCode::kUnimplemented;
    case v1::ERROR_CODE_MODEL_NOT_FOUND:
      return absl::StatusCode::kNotFound;
    case v1::ERROR_CODE_QUEUE_FULL:
    case v1::ERROR_CODE_QUOTA:
      return absl::StatusCode::kResourceExhausted;
    case v1::ERROR_CODE_DEADLINE:
      return absl::StatusCode::kDeadlineExceeded;
    case v1::ERROR_CODE_WORLD_LOST:
    case v1::ERROR_CODE_DRAINING:
      return absl::StatusCode::kUnavailable;
    case v1::ERROR_CODE_UNAUTHENTICATED:
      return absl::StatusCode::kUnauthenticated;
    default:
      return absl::StatusCode::kInternal;
  }
}

bool IsRetryable(v1::ErrorCode code) {
  return code == v1::ERROR_CODE_QUEUE_FULL || code == v1::ERROR_CODE_QUOTA ||
         code == v1::ERROR_CODE_WORLD_LOST || code == v1::ERROR_CODE_DRAINING;
}

namespace {

constexpr size_t kMostValueBytes = 200;

// What fits into a proto string: at most kMostValueBytes, whole characters, bytes that are no UTF-8
// as '?'.
std::string Printable(const std::string& value) {
  std::string text;
  for (size_t i = 0; i < value.size() && text.size() < kMostValueBytes;) {
    const auto lead = static_cast<unsigned char>(value[i]);
    const size_t length = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    const std::string character = value.substr(i, length);
    if (google::protobuf::internal::IsStructurallyValidUTF8(character)) {
      text += character;
      i += length;
    } else {
      text += '?';
      ++i;
    }
  }
  return text;
}

}  // namespace

absl::Status MakeError(v1::ErrorDetail detail, const std::string& message) {
  detail.set_value(Printable(detail.value()));
  detail.set_retryable(IsRetryable(detail.code()));
  absl::Status status(CodeOf(detail.code()), message);
  status.SetPayload(kErrorDetailUrl, absl::Cord(detail.SerializeAsString()));
  return status;
}

absl::Status InvalidField(const std::string& field,
                          const std::string& value,
                          const std::string& problem,
                          const std::string& remedy) {
  v1::ErrorDetail detail;
  detail.set_code(v1::ERROR_CODE_INVALID_FIELD);
  detail.set_field(field);
  detail.set_value(value);
  detail.set_remedy(remedy);
  return MakeError(std::move(detail),
                   absl::StrCat(field, " is ", value, ": ", problem, "; ", remedy));
}

absl::Status UnsupportedField(const std::string& field,
                              const std::string& value,
                              const std::string& remedy) {
  v1::ErrorDetail detail;
  detail.set_code(v1::ERROR_CODE_UNSUPPORTED);
  detail.set_field(field);
  detail.set_value(value);
  detail.set_remedy(remedy);
  return MakeError(std::move(detail), absl::StrCat(field, " is not supported: ", remedy));
}

namespace {

v1::ErrorCode CodeFrom(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
      return v1::ERROR_CODE_INVALID_FIELD;
    case absl::StatusCode::kUnimplemented:
      return v1::ERROR_CODE_UNSUPPORTED;
    case absl::StatusCode::kNotFound:
      return v1::ERROR_CODE_MODEL_NOT_FOUND;
    case absl::StatusCode::kResourceExhausted:
      return v1::ERROR_CODE_QUEUE_FULL;
    case absl::StatusCode::kDeadlineExceeded:
      return v1::ERROR_CODE_DEADLINE;
    case absl::StatusCode::kUnavailable:
      return v1::ERROR_CODE_WORLD_LOST;
    case absl::StatusCode::kUnauthenticated:
      return v1::ERROR_CODE_UNAUTHENTICATED;
    default:
      return v1::ERROR_CODE_INTERNAL;
  }
}

}  // namespace

v1::ErrorDetail DetailOf(const absl::Status& status) {
  v1::ErrorDetail detail;
  const auto payload = status.GetPayload(kErrorDetailUrl);
  if (payload.has_value() && detail.ParseFromString(std::string(*payload))) return detail;
  detail.Clear();
  detail.set_code(CodeFrom(status.code()));
  detail.set_retryable(IsRetryable(detail.code()));
  return detail;
}

}  // namespace deltaserve
