// causeway.v1.Generation: binds each RPC to its handler.
#ifndef CAUSEWAY_SERVER_RPC_GENERATION_SERVICE_H_
#define CAUSEWAY_SERVER_RPC_GENERATION_SERVICE_H_

#include <memory>

#include <grpcpp/impl/codegen/service_type.h>

#include "server/rpc/serving.h"

namespace causeway {

// `context` outlives the service.
std::unique_ptr<grpc::Service> MakeGenerationService(RpcContext& context);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_GENERATION_SERVICE_H_
