// The handlers of causeway.v1.Admin.
#ifndef CAUSEWAY_SERVER_RPC_ADMIN_H_
#define CAUSEWAY_SERVER_RPC_ADMIN_H_

#include "absl/status/statusor.h"
#include "causeway/v1/admin.pb.h"
#include "server/rpc/serving.h"

namespace causeway {

absl::StatusOr<v1::GetModelResponse> HandleGetModel(RpcContext& context, const v1::GetModelRequest& request);
absl::StatusOr<v1::GetPlanResponse> HandleGetPlan(RpcContext& context, const v1::GetPlanRequest& request);
absl::StatusOr<v1::GetStatusResponse> HandleGetStatus(RpcContext& context, const v1::GetStatusRequest& request);
absl::StatusOr<v1::CancelResponse> HandleCancel(RpcContext& context, const v1::CancelRequest& request);
// Only what is answered: the service asks for the drain once that has been sent.
absl::StatusOr<v1::DrainResponse> HandleDrain(RpcContext& context, const v1::DrainRequest& request);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_ADMIN_H_
