// The edge where the engine's Status becomes gRPC's.
#ifndef CAUSEWAY_SERVER_RPC_STATUS_MAP_H_
#define CAUSEWAY_SERVER_RPC_STATUS_MAP_H_

#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "server/telemetry/metrics.h"

namespace causeway {

// Keeps code and message (cut to kStatusMessageBytesMax). RESOURCE_EXHAUSTED carries a google.rpc.RetryInfo.
grpc::Status ToGrpcStatus(const absl::Status& status);

// The outcome of a request that was refused, or that the engine gave up, with `status`.
Outcome OutcomeOf(const absl::Status& status);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_STATUS_MAP_H_
