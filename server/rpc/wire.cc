#include "server/rpc/wire.h"

#include <mutex>
#include <string>

#include <google/protobuf/stubs/logging.h>
#include <grpcpp/impl/codegen/proto_utils.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/telemetry/log.h"

namespace causeway {
namespace {

// Protobuf names the field that is not UTF-8 only in its log, from inside the parse and on its thread.
thread_local std::string broken_field;

void TakeProtobufLog(google::protobuf::LogLevel level, const char* file, int line, const std::string& message) {
  constexpr absl::string_view kPrefix = "String field '";
  if (absl::StartsWith(message, kPrefix) && absl::StrContains(message, "invalid UTF-8")) {
    const std::string name(absl::string_view(message).substr(kPrefix.size()));
    broken_field = name.substr(0, name.find('\''));
    return;
  }
  Log(level >= google::protobuf::LOGLEVEL_ERROR ? LogLevel::kError : LogLevel::kWarning, "protobuf",
      {{"message", message}});
}

}  // namespace

absl::Status ParseMessage(const grpc::ByteBuffer& bytes, google::protobuf::Message* message) {
  static std::once_flag once;
  std::call_once(once, [] { google::protobuf::SetLogHandler(TakeProtobufLog); });
  broken_field.clear();
  grpc::ByteBuffer copy(bytes);  // shares the slices; reading consumes the buffer
  const grpc::Status status =
      grpc::GenericDeserialize<grpc::ProtoBufferReader, google::protobuf::Message>(&copy, message);
  if (status.ok()) return absl::OkStatus();
  if (!broken_field.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("the text field ", broken_field, " is not valid UTF-8"));
  }
  return absl::InvalidArgumentError(absl::StrCat("the bytes are not a valid ", message->GetDescriptor()->full_name()));
}

grpc::ByteBuffer WriteMessage(const google::protobuf::Message& message) {
  grpc::ByteBuffer bytes;
  bool own;
  // This fails only for a message above 2 GiB, which none of our responses can be.
  (void)grpc::GenericSerialize<grpc::ProtoBufferWriter, google::protobuf::Message>(message, &bytes, &own);
  return bytes;
}

}  // namespace causeway
