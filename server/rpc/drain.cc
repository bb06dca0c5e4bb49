#include "server/rpc/admin.h"
#include "server/telemetry/log.h"

namespace causeway {

absl::StatusOr<v1::DrainResponse> HandleDrain(RpcContext& context, const Caller& caller,
                                              const v1::DrainRequest& request) {
  v1::DrainResponse response;
  if (const Serving* serving = context.state.serving(); serving != nullptr) {
    const EngineStats stats = serving->engine->Stats();
    response.set_requests_remaining(stats.requests_running + stats.requests_waiting);
  }
  Log(LogLevel::kInfo, "drain asked for by Admin.Drain", {{"peer", caller.peer}});
  return response;
}

}  // namespace causeway
