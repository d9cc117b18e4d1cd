#include "proto/error.h"

#include <utility>

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

std::string ErrorText(std::string_view text, size_t most_bytes) {
  constexpr std::string_view kCut = "...";
  std::string shown;
  size_t uncut_bytes = 0;  // of `shown`, with room for kCut behind
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    const std::string character(text.substr(i, length));
    if (google::protobuf::internal::IsStructurallyValidUTF8(character)) {
      shown += character;
      i += character.size();
    } else {
      shown += "\xef\xbf\xbd";
      ++i;
    }
    if (shown.size() > most_bytes) return shown.substr(0, uncut_bytes).append(kCut);
    if (shown.size() + kCut.size() <= most_bytes) uncut_bytes = shown.size();
  }
  return shown;
}

absl::Status MakeError(v1::ErrorDetail detail, const std::string& message) {
  detail.set_field(ErrorText(detail.field(), kMostErrorValueBytes));
  detail.set_value(ErrorText(detail.value(), kMostErrorValueBytes));
  detail.set_remedy(ErrorText(detail.remedy(), kMostErrorTextBytes));
  detail.set_world(ErrorText(detail.world(), kMostErrorValueBytes));
  detail.set_request_id(ErrorText(detail.request_id(), kMostErrorValueBytes));
  detail.set_retryable(IsRetryable(detail.code()));
  absl::Status status(CodeOf(detail.code()), ErrorText(message, kMostErrorMessageBytes));
  status.SetPayload(kErrorDetailUrl, absl::Cord(detail.SerializeAsString()));
  return status;
}

absl::Status InvalidField(const std::string& field,
                          const std::string& value,
                          const std::string& problem,
                          const std::string& remedy) {
  v1::ErrorDetail detail;
  detail.set_code(v1::ERROR_CODE_INVALID_FIELD);
  detail.set_field(ErrorText(field, kMostErrorValueBytes));
  detail.set_value(ErrorText(value, kMostErrorValueBytes));
  detail.set_remedy(ErrorText(remedy, kMostErrorTextBytes));
  const std::string message =
      absl::StrCat(detail.field(), " is ", detail.value(), ": ",
                   ErrorText(problem, kMostErrorTextBytes), "; ", detail.remedy());
  return MakeError(std::move(detail), message);
}

absl::Status UnsupportedField(const std::string& field,
                              const std::string& value,
                              const std::string& remedy) {
  v1::ErrorDetail detail;
  detail.set_code(v1::ERROR_CODE_UNSUPPORTED);
  detail.set_field(ErrorText(field, kMostErrorValueBytes));
  detail.set_value(value);
  detail.set_remedy(ErrorText(remedy, kMostErrorTextBytes));
  const std::string message = absl::StrCat(detail.field(), " is not supported: ", detail.remedy());
  return MakeError(std::move(detail), message);
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
