// The handlers of causeway.v1.Generation; one file each.
#ifndef CAUSEWAY_SERVER_RPC_GENERATE_H_
#define CAUSEWAY_SERVER_RPC_GENERATE_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include "absl/status/statusor.h"
#include "causeway/v1/generation.pb.h"
#include "server/rpc/serving.h"
#include "server/rpc/stream_writer.h"

namespace causeway {

// The reactors own themselves until their call is done.
grpc::ServerUnaryReactor* HandleGenerate(RpcContext& context, grpc::CallbackServerContext* call,
                                         const grpc::ByteBuffer& request, grpc::ByteBuffer* response);
StreamReactor* HandleGenerateStream(RpcContext& context, grpc::CallbackServerContext* call,
                                    const grpc::ByteBuffer& request);

absl::StatusOr<v1::TokenizeResponse> HandleTokenize(RpcContext& context, const Caller& caller,
                                                    const v1::TokenizeRequest& request);
absl::StatusOr<v1::DetokenizeResponse> HandleDetokenize(RpcContext& context, const Caller& caller,
                                                        const v1::DetokenizeRequest& request);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_GENERATE_H_
