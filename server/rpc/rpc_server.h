// The gRPC listener with every service on it.
#ifndef CAUSEWAY_SERVER_RPC_RPC_SERVER_H_
#define CAUSEWAY_SERVER_RPC_RPC_SERVER_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/rpc/serving.h"
#include "server/startup/address.h"

namespace causeway {

class RpcServer {
 public:
  // Listens at once; health says NOT_SERVING. Unavailable names the address and why it could not be opened. `context`
  // outlives the server.
  static absl::StatusOr<std::unique_ptr<RpcServer>> Start(const Address& address, int64_t message_bytes_max,
                                                          RpcContext& context);
  virtual ~RpcServer() = default;

  virtual void SetServing(bool serving) = 0;
  // Ends the watching streams, takes no new calls, and waits until the others have ended or `grace` has passed. Calls
  // that are left then are cancelled. Call it once.
  virtual void Stop(absl::Duration grace) = 0;
  virtual const Address& address() const = 0;  // has the port that was picked
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_RPC_SERVER_H_
