// grpc.health.v1.Health: Check, and a Watch that reports every change.
#ifndef CAUSEWAY_SERVER_RPC_HEALTH_SERVICE_H_
#define CAUSEWAY_SERVER_RPC_HEALTH_SERVICE_H_

#include <atomic>
#include <set>
#include <string>

#include "grpc/health/v1/health.grpc.pb.h"
#include "server/rpc/serving.h"
#include "server/rpc/watchers.h"

namespace causeway {

// The methods are raw: the handlers parse (wire.h).
using RawHealth = grpc::health::v1::Health::WithRawCallbackMethod_Check<
    grpc::health::v1::Health::WithRawCallbackMethod_Watch<grpc::health::v1::Health::Service>>;

// It says NOT_SERVING from construction on, so that no probe takes a server that still loads for ready (gRPC's own
// service starts out as SERVING). The server as a whole ("") and every service in `services` have the same status.
class HealthService final : public RawHealth {
 public:
  // `context` outlives the service.
  HealthService(RpcContext& context, std::set<std::string> services);

  // Tells every watcher.
  void SetServing(bool serving);
  // Ends the Watch streams. Call it before the server is shut down, which would wait for them.
  void Stop();

  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response) override;
  StreamReactor* Watch(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request) override;

 private:
  grpc::health::v1::HealthCheckResponse Status(const std::string& service) const;
  absl::StatusOr<StreamReactor*> OpenWatch(const grpc::CallbackServerContext& call, const grpc::ByteBuffer& bytes);

  RpcContext& context_;
  const std::set<std::string> services_;
  std::atomic<bool> serving_{false};
  Watchers watchers_;
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_HEALTH_SERVICE_H_
