#include "server/rpc/health_service.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace causeway {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

HealthService::HealthService(std::set<std::string> services) : services_(std::move(services)) {}

void HealthService::SetServing(bool serving) {
  if (serving_.exchange(serving) != serving) watchers_.Poke();
}

void HealthService::Stop() { watchers_.Stop(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the daemon stops")); }

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

grpc::ServerWriteReactor<HealthCheckResponse>* HealthService::Watch(grpc::CallbackServerContext* call,
                                                                    const HealthCheckRequest* request) {
  return watchers_.Open([this, service = request->service()] { return Status(service); });
}

}  // namespace causeway
