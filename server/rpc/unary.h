// Answers a unary call: it is admitted, its message parsed and handled, and the response written, in this order.
#ifndef CAUSEWAY_SERVER_RPC_UNARY_H_
#define CAUSEWAY_SERVER_RPC_UNARY_H_

#include <cstddef>
#include <functional>
#include <utility>

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include "absl/status/statusor.h"
#include "engine/base/status.h"
#include "server/rpc/gate.h"
#include "server/rpc/serving.h"
#include "server/rpc/wire.h"

namespace causeway {

// The buffers of one call. gRPC owns them and keeps them until the call is done.
struct UnaryCall {
  Method method;
  grpc::CallbackServerContext* context;
  const grpc::ByteBuffer* request;
  grpc::ByteBuffer* response;
};

struct UnaryOptions {
  // These threads do the work, for a message that counts as `bytes`. When it is null, the thread that brought the call
  // does.
  PrepareWorkers* workers = nullptr;
  size_t bytes = 0;
  // Called once a response that is no error has been sent.
  std::function<void()> sent;
};

// `work` makes the response's bytes, unless the call is refused or cancelled before.
using UnaryWork = std::function<absl::StatusOr<grpc::ByteBuffer>(const Caller&)>;
grpc::ServerUnaryReactor* StartUnary(RpcContext& context, const UnaryCall& call, UnaryWork work, UnaryOptions options);

// `handler` takes the context, the caller and a Request, and gives a StatusOr of the response.
template <typename Request, typename Handler>
grpc::ServerUnaryReactor* AnswerUnary(RpcContext& context, const UnaryCall& call, Handler handler,
                                      UnaryOptions options = {}) {
  auto work = [&context, handler, bytes = call.request](const Caller& caller) -> absl::StatusOr<grpc::ByteBuffer> {
    Request request;
    CAUSEWAY_RETURN_IF_ERROR(ParseMessage(*bytes, &request));
    CAUSEWAY_ASSIGN_OR_RETURN(const auto response, handler(context, caller, request));
    return WriteMessage(response);
  };
  return StartUnary(context, call, std::move(work), std::move(options));
}

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_UNARY_H_
