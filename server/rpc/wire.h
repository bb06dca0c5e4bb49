// Turns messages into bytes and back. Where gRPC does it, a text that is not UTF-8 is answered with an empty
// UNIMPLEMENTED.
#ifndef CAUSEWAY_SERVER_RPC_WIRE_H_
#define CAUSEWAY_SERVER_RPC_WIRE_H_

#include <google/protobuf/message.h>
#include <grpcpp/support/byte_buffer.h>

#include "absl/status/status.h"

namespace causeway {

// InvalidArgument names the text field that is not valid UTF-8, or the message that the bytes don't make.
absl::Status ParseMessage(const grpc::ByteBuffer& bytes, google::protobuf::Message* message);
grpc::ByteBuffer WriteMessage(const google::protobuf::Message& message);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_WIRE_H_
