#include "client/client.h"

#include <chrono>

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/check.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace causeway {
namespace {

constexpr char kRetryInfo[] = "type.googleapis.com/google.rpc.RetryInfo";
constexpr int kMessageBytesMax = 256 << 20;  // answers hold logprobs and plans of large models

std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  // A daemon that is starting should be found shortly after it listens.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  // A proxy elsewhere cannot reach this machine's own addresses. gRPC knows them only where no_proxy names them.
  if (IsLoopback(address)) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

void Prepare(grpc::ClientContext& context, const CallOptions& options) {
  if (options.timeout != absl::InfiniteDuration()) {
    context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(options.timeout));
  }
}

}  // namespace

std::optional<absl::Duration> RetryDelay(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kRetryInfo);
  google::rpc::RetryInfo retry;
  if (!payload || !retry.ParseFromString(std::string(*payload))) return std::nullopt;
  return absl::Seconds(retry.retry_delay().seconds()) + absl::Nanoseconds(retry.retry_delay().nanos());
}

Client::Client(const std::string& address) : address_(address) {
  const std::shared_ptr<grpc::Channel> channel = Connect(address);
  generation_ = v1::Generation::NewStub(channel);
  admin_ = v1::Admin::NewStub(channel);
}

absl::Status Client::FromGrpc(const grpc::Status& status) const {
  if (status.ok()) return absl::OkStatus();
  const auto code = static_cast<absl::StatusCode>(status.error_code());
  const std::string& message = status.error_message();
  // These are gRPC's own words for a connection that failed; the daemon has others for loading and draining.
  if (code == absl::StatusCode::kUnavailable &&
      (absl::StrContains(message, "connect") || absl::StrContains(message, "resolution") ||
       absl::StrContains(message, "Socket"))) {
    return absl::UnavailableError(absl::StrCat("no daemon answers at ", address_, " (", message,
                                               "). Start one with `causewayd serve --model DIR --listen ", address_,
                                               "`, or name another with --server HOST:PORT"));
  }
  absl::Status result(code, message);
  google::rpc::Status details;
  if (details.ParseFromString(status.error_details())) {
    for (const auto& detail : details.details()) result.SetPayload(detail.type_url(), absl::Cord(detail.value()));
  }
  return result;
}

absl::Status Client::GenerateStream(const v1::GenerateRequest& request,
                                    const std::function<bool(const v1::GenerateStreamResponse&)>& on_event,
                                    const CallOptions& options) {
  if (absl::Status valid = CheckText(request); !valid.ok()) return valid;
  grpc::ClientContext context;
  Prepare(context, options);
  const auto reader = generation_->GenerateStream(&context, request);
  v1::GenerateStreamResponse event;
  while (reader->Read(&event)) {
    if (!on_event(event)) context.TryCancel();
  }
  return FromGrpc(reader->Finish());
}

absl::Status Client::WatchStatus(double interval_seconds,
                                 const std::function<bool(const v1::GetStatusResponse&)>& on_status) {
  grpc::ClientContext context;
  v1::WatchStatusRequest request;
  request.set_interval_seconds(interval_seconds);
  const auto reader = admin_->WatchStatus(&context, request);
  v1::GetStatusResponse status;
  while (reader->Read(&status)) {
    if (!on_status(status)) context.TryCancel();
  }
  return FromGrpc(reader->Finish());
}

absl::Status Client::ExtractLayerOutputs(const v1::ExtractLayerOutputsRequest& request,
                                         const std::function<bool(const v1::ExtractLayerOutputsResponse&)>& on_event,
                                         const CallOptions& options) {
  grpc::ClientContext context;
  Prepare(context, options);
  const auto reader = admin_->ExtractLayerOutputs(&context, request);
  v1::ExtractLayerOutputsResponse event;
  while (reader->Read(&event)) {
    if (!on_event(event)) context.TryCancel();
  }
  return FromGrpc(reader->Finish());
}

#define CAUSEWAY_UNARY(stub, method, request)                                       \
  grpc::ClientContext context;                                                      \
  Prepare(context, options);                                                        \
  v1::method##Response response;                                                    \
  const absl::Status status = FromGrpc(stub->method(&context, request, &response)); \
  if (!status.ok()) return status

absl::StatusOr<v1::GenerateResponse> Client::Generate(const v1::GenerateRequest& request, const CallOptions& options) {
  if (absl::Status valid = CheckText(request); !valid.ok()) return valid;
  CAUSEWAY_UNARY(generation_, Generate, request);
  return response;
}

absl::StatusOr<v1::TokenizeResponse> Client::Tokenize(const v1::TokenizeRequest& request, const CallOptions& options) {
  CAUSEWAY_UNARY(generation_, Tokenize, request);
  return response;
}

absl::StatusOr<v1::DetokenizeResponse> Client::Detokenize(const v1::DetokenizeRequest& request,
                                                          const CallOptions& options) {
  CAUSEWAY_UNARY(generation_, Detokenize, request);
  return response;
}

absl::StatusOr<v1::GetModelResponse> Client::GetModel(const CallOptions& options) {
  CAUSEWAY_UNARY(admin_, GetModel, v1::GetModelRequest());
  return response;
}

absl::StatusOr<v1::GetPlanResponse> Client::GetPlan(const CallOptions& options) {
  return GetPlan(v1::GetPlanRequest(), options);
}

absl::StatusOr<v1::GetPlanResponse> Client::GetPlan(const v1::GetPlanRequest& request, const CallOptions& options) {
  CAUSEWAY_UNARY(admin_, GetPlan, request);
  return response;
}

absl::StatusOr<v1::GetStatusResponse> Client::GetStatus(const CallOptions& options) {
  CAUSEWAY_UNARY(admin_, GetStatus, v1::GetStatusRequest());
  return response;
}

absl::Status Client::Cancel(const std::string& request_id, const CallOptions& options) {
  v1::CancelRequest request;
  request.set_request_id(request_id);
  CAUSEWAY_UNARY(admin_, Cancel, request);
  return absl::OkStatus();
}

#undef CAUSEWAY_UNARY

}  // namespace causeway
