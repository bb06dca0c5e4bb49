#include "server/rpc/rpc_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/server_builder.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/rpc/admin_service.h"
#include "server/rpc/generation_service.h"
#include "server/rpc/health_service.h"

namespace causeway {
namespace {

class GrpcServer : public RpcServer {
 public:
  GrpcServer(Address address, RpcContext& context)
      : address_(std::move(address)),
        generation_(MakeGenerationService(context)),
        admin_(context),
        health_(context, {"causeway.v1.Generation", "causeway.v1.Admin"}) {}

  absl::Status Listen(int64_t message_bytes_max) {
    static const bool reflection = [] {
      grpc::reflection::InitProtoReflectionServerBuilderPlugin();
      return true;
    }();
    (void)reflection;
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort(address_.ToString(), grpc::InsecureServerCredentials(), &port);
    // Otherwise two daemons would share a port silently.
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.SetMaxReceiveMessageSize(static_cast<int>(message_bytes_max));
    // The daemon notices within a minute and a half that a client vanished without closing its connection, and cancels
    // its requests.
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
    // Clients may ask once a second whether we are there; those that ask more often are cut off.
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1'000);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    builder.RegisterService(generation_.get());
    builder.RegisterService(&admin_);
    builder.RegisterService(&health_);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port == 0) {
      return absl::UnavailableError(
          absl::StrCat("cannot listen for gRPC at ", address_.ToString(), ": ", ListenFailure(address_)));
    }
    address_.port = port;
    return absl::OkStatus();
  }

  void SetServing(bool serving) override { health_.SetServing(serving); }

  void Stop(absl::Duration grace) override {
    health_.Stop();
    admin_.Stop();
    server_->Shutdown(absl::ToChronoTime(absl::Now() + grace));
    server_->Wait();
  }

  const Address& address() const override { return address_; }

 private:
  Address address_;
  std::unique_ptr<grpc::Service> generation_;
  AdminService admin_;
  HealthService health_;
  std::unique_ptr<grpc::Server> server_;  // last, since it is the first to be destroyed
};

}  // namespace

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(const Address& address, int64_t message_bytes_max,
                                                            RpcContext& context) {
  auto server = std::make_unique<GrpcServer>(address, context);
  if (absl::Status status = server->Listen(message_bytes_max); !status.ok()) return status;
  return server;
}

}  // namespace causeway
