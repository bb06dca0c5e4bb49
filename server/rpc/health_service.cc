#include "server/rpc/health_service.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "server/rpc/wire.h"

namespace causeway {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

HealthService::HealthService(std::set<std::string> services) : services_(std::move(services)) {}

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

grpc::ServerUnaryReactor* HealthService::Check(grpc::CallbackServerContext* call, const HealthCheckRequest* request,
                                               HealthCheckResponse* response) {
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  *response = Status(request->service());
  if (response->status() == HealthCheckResponse::SERVICE_UNKNOWN) {
    reactor->Finish(grpc::Status(grpc::StatusCode::NOT_FOUND,
                                 absl::StrCat("no service ", request->service().substr(0, 200), " here")));
  } else {
    reactor->Finish(grpc::Status::OK);
  }
  return reactor;
}

StreamReactor* HealthService::Watch(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request) {
  return StreamOr(OpenWatch(*request));
}

absl::StatusOr<StreamReactor*> HealthService::OpenWatch(const grpc::ByteBuffer& bytes) {
  HealthCheckRequest request;
  CAUSEWAY_RETURN_IF_ERROR(ParseMessage(bytes, &request));
  return watchers_.Open([this, service = request.service()] { return WriteMessage(Status(service)); });
}

}  // namespace causeway
