#include "server/rpc/admin_service.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "server/rpc/admin.h"
#include "server/rpc/limits.h"
#include "server/rpc/unary.h"
#include "server/rpc/wire.h"

namespace causeway {

void AdminService::Stop() { watchers_.Stop(); }

grpc::ServerUnaryReactor* AdminService::GetModel(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request,
                                                 grpc::ByteBuffer* response) {
  return AnswerUnary<v1::GetModelRequest>(context_, {Method::kGetModel, call, request, response}, HandleGetModel);
}

grpc::ServerUnaryReactor* AdminService::GetPlan(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request,
                                                grpc::ByteBuffer* response) {
  UnaryOptions options;
  if (request->Length() > 0)  // otherwise it is the served plan, which is there
    options = {.workers = &context_.planner, .bytes = std::max(request->Length(), kPlanBytesMin)};
  return AnswerUnary<v1::GetPlanRequest>(context_, {Method::kGetPlan, call, request, response}, HandleGetPlan,
                                         std::move(options));
}

grpc::ServerUnaryReactor* AdminService::GetStatus(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request,
                                                  grpc::ByteBuffer* response) {
  return AnswerUnary<v1::GetStatusRequest>(context_, {Method::kGetStatus, call, request, response}, HandleGetStatus);
}

StreamReactor* AdminService::WatchStatus(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request) {
  return StreamOr(OpenWatch(*call, *request));
}

absl::StatusOr<StreamReactor*> AdminService::OpenWatch(const grpc::CallbackServerContext& call,
                                                       const grpc::ByteBuffer& bytes) {
  CAUSEWAY_ASSIGN_OR_RETURN(const Caller caller, context_.gate.Admit(Method::kWatchStatus, call.peer()));
  v1::WatchStatusRequest request;
  CAUSEWAY_RETURN_IF_ERROR(ParseMessage(bytes, &request));
  const double seconds = request.has_interval_seconds() ? request.interval_seconds() : kWatchIntervalDefault;
  if (!(seconds >= kWatchIntervalMin && seconds <= kWatchIntervalMax)) {
    return absl::InvalidArgumentError(absl::StrCat("interval_seconds is ", seconds, ", expected a number in [",
                                                   kWatchIntervalMin, ", ", kWatchIntervalMax, "]"));
  }
  return watchers_.Open([this, caller] { return WriteMessage(*HandleGetStatus(context_, caller, {})); },
                        std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000)));
}

grpc::ServerUnaryReactor* AdminService::Cancel(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request,
                                               grpc::ByteBuffer* response) {
  return AnswerUnary<v1::CancelRequest>(context_, {Method::kCancel, call, request, response}, HandleCancel);
}

grpc::ServerUnaryReactor* AdminService::Drain(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request,
                                              grpc::ByteBuffer* response) {
  // The drain comes after the answer has been sent: while the model loads, a drain ends the process at once.
  return AnswerUnary<v1::DrainRequest>(context_, {Method::kDrain, call, request, response}, HandleDrain,
                                       {.sent = context_.request_drain});
}

StreamReactor* AdminService::ExtractLayerOutputs(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request) {
  return HandleExtractLayerOutputs(context_, call, *request);
}

}  // namespace causeway
