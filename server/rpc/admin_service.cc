#include "server/rpc/admin_service.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "server/rpc/admin.h"
#include "server/rpc/limits.h"
#include "server/rpc/peer.h"
#include "server/rpc/status_map.h"
#include "server/rpc/wire.h"

namespace causeway {
namespace {

absl::Status CheckPeer(const grpc::CallbackServerContext& call) {
  const std::string peer = call.peer();
  if (IsLoopback(peer)) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat("causeway.v1.Admin answers callers on the loopback interface only, and this one is ", peer));
}

template <typename Request, typename Response>
absl::Status Handle(RpcContext& context, const grpc::CallbackServerContext& call, const Request& request, Response* out,
                    absl::StatusOr<Response> (*handler)(RpcContext&, const Request&)) {
  CAUSEWAY_RETURN_IF_ERROR(CheckPeer(call));
  CAUSEWAY_ASSIGN_OR_RETURN(*out, handler(context, request));
  return absl::OkStatus();
}

template <typename Request, typename Response>
grpc::ServerUnaryReactor* Answer(RpcContext& context, grpc::CallbackServerContext* call, const Request& request,
                                 Response* out, absl::StatusOr<Response> (*handler)(RpcContext&, const Request&)) {
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  reactor->Finish(ToGrpcStatus(Handle(context, *call, request, out, handler)));
  return reactor;
}

// Drains once the answer has been sent: while the model loads, that ends the process at once.
class DrainReactor : public grpc::ServerUnaryReactor {
 public:
  DrainReactor(RpcContext& context, const absl::Status& status) : context_(context), drain_(status.ok()) {
    Finish(ToGrpcStatus(status));
  }
  void OnDone() override {
    if (drain_) context_.request_drain();
    delete this;
  }

 private:
  RpcContext& context_;
  const bool drain_;
};

}  // namespace

void AdminService::Stop() { watchers_.Stop(); }

grpc::ServerUnaryReactor* AdminService::GetModel(grpc::CallbackServerContext* call, const v1::GetModelRequest* request,
                                                 v1::GetModelResponse* response) {
  return Answer(context_, call, *request, response, HandleGetModel);
}

grpc::ServerUnaryReactor* AdminService::GetPlan(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request,
                                                grpc::ByteBuffer* response) {
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  const auto answer = [this, call, request, response]() -> absl::Status {
    if (call->IsCancelled()) return absl::CancelledError("the call was cancelled");
    v1::GetPlanRequest parsed;
    v1::GetPlanResponse plan;
    CAUSEWAY_RETURN_IF_ERROR(ParseMessage(*request, &parsed));
    CAUSEWAY_RETURN_IF_ERROR(Handle(context_, *call, parsed, &plan, HandleGetPlan));
    *response = WriteMessage(plan);
    return absl::OkStatus();
  };
  if (request->Length() == 0) {  // the served plan, which is there
    reactor->Finish(ToGrpcStatus(answer()));
    return reactor;
  }
  // All of what it reads and writes is gRPC's, and there until Finish.
  const absl::Status queued = context_.planner.Push(std::max(request->Length(), kPlanBytesMin),
                                                    [reactor, answer] { reactor->Finish(ToGrpcStatus(answer())); });
  if (!queued.ok()) reactor->Finish(ToGrpcStatus(queued));
  return reactor;
}

grpc::ServerUnaryReactor* AdminService::GetStatus(grpc::CallbackServerContext* call,
                                                  const v1::GetStatusRequest* request,
                                                  v1::GetStatusResponse* response) {
  return Answer(context_, call, *request, response, HandleGetStatus);
}

StreamReactor* AdminService::WatchStatus(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request) {
  return StreamOr(OpenWatch(*call, *request));
}

absl::StatusOr<StreamReactor*> AdminService::OpenWatch(const grpc::CallbackServerContext& call,
                                                       const grpc::ByteBuffer& bytes) {
  CAUSEWAY_RETURN_IF_ERROR(CheckPeer(call));
  v1::WatchStatusRequest request;
  CAUSEWAY_RETURN_IF_ERROR(ParseMessage(bytes, &request));
  const double seconds = request.has_interval_seconds() ? request.interval_seconds() : kWatchIntervalDefault;
  if (!(seconds >= kWatchIntervalMin && seconds <= kWatchIntervalMax)) {
    return absl::InvalidArgumentError(absl::StrCat("interval_seconds is ", seconds, ", expected a number in [",
                                                   kWatchIntervalMin, ", ", kWatchIntervalMax, "]"));
  }
  return watchers_.Open([this] { return WriteMessage(*HandleGetStatus(context_, {})); },
                        std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000)));
}

grpc::ServerUnaryReactor* AdminService::Cancel(grpc::CallbackServerContext* call, const v1::CancelRequest* request,
                                               v1::CancelResponse* response) {
  return Answer(context_, call, *request, response, HandleCancel);
}

grpc::ServerUnaryReactor* AdminService::Drain(grpc::CallbackServerContext* call, const v1::DrainRequest* request,
                                              v1::DrainResponse* response) {
  return new DrainReactor(context_, Handle(context_, *call, *request, response, HandleDrain));  // deletes itself
}

StreamReactor* AdminService::ExtractLayerOutputs(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request) {
  if (absl::Status status = CheckPeer(*call); !status.ok()) return StreamOr(status);
  return HandleExtractLayerOutputs(context_, call, *request);
}

}  // namespace causeway
