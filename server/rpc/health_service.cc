#include "server/rpc/health_service.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "server/rpc/unary.h"
#include "server/rpc/wire.h"

namespace causeway {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

HealthService::HealthService(RpcContext& context, std::set<std::string> services)
    : context_(context), services_(std::move(services)) {}

void HealthService::SetServing(bool serving) {
  if (serving_.exchange(serving) != serving) watchers_.Poke();
}

void HealthService::Stop() { watchers_.Stop(); }

HealthCheckResponse HealthService::Status(const std::string& service) const {
  HealthCheckResponse response;
  if (!service.empty() && !services_.contains(service)) {
    response.set_status(HealthCheckResponse::SERVICE_UNKNOWN);
  } else {
    response.set_status(serving_ ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING);
  }
  return response;
}

grpc::ServerUnaryReactor* HealthService::Check(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request,
                                               grpc::ByteBuffer* response) {
  const auto handler = [this](RpcContext&, const Caller&,
                              const HealthCheckRequest& asked) -> absl::StatusOr<HealthCheckResponse> {
    HealthCheckResponse status = Status(asked.service());
    if (status.status() == HealthCheckResponse::SERVICE_UNKNOWN)
      return absl::NotFoundError(absl::StrCat("no service ", asked.service().substr(0, 200), " here"));
    return status;
  };
  return AnswerUnary<HealthCheckRequest>(context_, {Method::kHealthCheck, call, request, response}, handler);
}

StreamReactor* HealthService::Watch(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request) {
  return StreamOr(OpenWatch(*call, *request));
}

absl::StatusOr<StreamReactor*> HealthService::OpenWatch(const grpc::CallbackServerContext& call,
                                                        const grpc::ByteBuffer& bytes) {
  CAUSEWAY_RETURN_IF_ERROR(context_.gate.Admit(Method::kHealthWatch, call.peer()).status());
  HealthCheckRequest request;
  CAUSEWAY_RETURN_IF_ERROR(ParseMessage(bytes, &request));
  return watchers_.Open([this, service = request.service()] { return WriteMessage(Status(service)); });
}

}  // namespace causeway
