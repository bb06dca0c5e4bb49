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
// Makes the plan when the request sets any field. That takes milliseconds, or seconds where a large model does not fit
// and remedies are tried.
absl::StatusOr<v1::GetPlanResponse> HandleGetPlan(RpcContext& context, const Caller& caller,
                                                  const v1::GetPlanRequest& request);
absl::StatusOr<v1::GetStatusResponse> HandleGetStatus(RpcContext& context, const Caller& caller,
                                                      const v1::GetStatusRequest& request);
absl::StatusOr<v1::CancelResponse> HandleCancel(RpcContext& context, const Caller& caller,
                                                const v1::CancelRequest& request);
// Only makes the answer: the service asks for the drain once the answer has been sent.
absl::StatusOr<v1::DrainResponse> HandleDrain(RpcContext& context, const Caller& caller,
                                              const v1::DrainRequest& request);
// Owns itself until its call is done.
StreamReactor* HandleExtractLayerOutputs(RpcContext& context, grpc::CallbackServerContext* call,
                                         const grpc::ByteBuffer& request);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_ADMIN_H_
