// The handlers of causeway.v1.Admin.
#ifndef CAUSEWAY_SERVER_RPC_ADMIN_H_
#define CAUSEWAY_SERVER_RPC_ADMIN_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>

#include "absl/status/statusor.h"
#include "causeway/v1/admin.pb.h"
#include "server/rpc/serving.h"
#include "server/rpc/stream_writer.h"

namespace causeway {

absl::StatusOr<v1::GetModelResponse> HandleGetModel(RpcContext& context, const Caller& caller,
                                                    const v1::GetModelRequest& request);
// Of a request with any field set it makes the plan: milliseconds, and seconds where a large model does not fit and
// what would help is tried.
absl::StatusOr<v1::GetPlanResponse> HandleGetPlan(RpcContext& context, const Caller& caller,
                                                  const v1::GetPlanRequest& request);
absl::StatusOr<v1::GetStatusResponse> HandleGetStatus(RpcContext& context, const Caller& caller,
                                                      const v1::GetStatusRequest& request);
absl::StatusOr<v1::CancelResponse> HandleCancel(RpcContext& context, const Caller& caller,
                                                const v1::CancelRequest& request);
// Only what is answered: the service asks for the drain once that has been sent.
absl::StatusOr<v1::DrainResponse> HandleDrain(RpcContext& context, const Caller& caller,
                                              const v1::DrainRequest& request);
// Owns itself until its call is done.
StreamReactor* HandleExtractLayerOutputs(RpcContext& context, grpc::CallbackServerContext* call,
                                         const grpc::ByteBuffer& request);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_ADMIN_H_
