#include "engine/base/status.h"
#include "server/rpc/admin.h"

namespace causeway {

absl::StatusOr<v1::CancelResponse> HandleCancel(RpcContext& context, const Caller& caller,
                                                const v1::CancelRequest& request) {
  if (request.request_id().empty())
    return absl::InvalidArgumentError("request_id is empty, expected the id of a request");
  CAUSEWAY_RETURN_IF_ERROR(caller.serving->engine->Cancel(request.request_id()));
  return v1::CancelResponse();
}

}  // namespace causeway
