#include "server/rpc/status_map.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/rpc/limits.h"

namespace causeway {
namespace {

// A full queue moves at the pace of whole requests, so asking again sooner only adds load.
constexpr int64_t kRetryDelaySeconds = 1;

std::string Cut(std::string message) {
  if (message.size() <= kStatusMessageBytesMax) return message;
  size_t end = kStatusMessageBytesMax - 3;
  while (end > 0 && (static_cast<unsigned char>(message[end]) & 0xC0) == 0x80) --end;  // not inside a character
  message.resize(end);
  return absl::StrCat(message, "...");
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  // The two enumerations share their numbers.
  const auto code = static_cast<grpc::StatusCode>(status.code());
  const std::string message = Cut(std::string(status.message()));
  if (!absl::IsResourceExhausted(status)) return grpc::Status(code, message);
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(kRetryDelaySeconds);
  google::rpc::Status details;
  details.set_code(code);
  details.set_message(message);
  details.add_details()->PackFrom(retry);
  return grpc::Status(code, message, details.SerializeAsString());
}

Outcome OutcomeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kUnavailable: return Outcome::kRejected;
    case absl::StatusCode::kCancelled: return Outcome::kCancelled;
    case absl::StatusCode::kDeadlineExceeded: return Outcome::kDeadline;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kPermissionDenied: return Outcome::kInvalid;
    default: return Outcome::kError;
  }
}

}  // namespace causeway
