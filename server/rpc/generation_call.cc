#include "server/rpc/generation_call.h"

#include <chrono>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/status.h"
#include "server/rpc/convert.h"
#include "server/rpc/status_map.h"
#include "server/rpc/wire.h"
#include "server/telemetry/log.h"

namespace causeway {
namespace {

// A client whose deadline passes resets the stream at that moment by its own clock, which is a trip over the network away from
// ours. A cancellation this close to the deadline is the deadline.
constexpr absl::Duration kDeadlineSlack = absl::Milliseconds(100);

absl::Time DeadlineOf(const grpc::CallbackServerContext& call) {
  const std::chrono::system_clock::time_point deadline = call.deadline();
  return deadline == std::chrono::system_clock::time_point::max() ? absl::InfiniteFuture() : absl::FromChrono(deadline);
}

absl::Status StatusOf(const GenerationEnd& end, Outcome outcome) {
  switch (outcome) {
    case Outcome::kError:
      return end.status.ok() ? absl::InternalError("the step that computed the request failed") : end.status;
    case Outcome::kDeadline: return absl::DeadlineExceededError("the deadline passed before the request was done");
    case Outcome::kCancelled: return absl::CancelledError("the request was cancelled");
    default: return absl::OkStatus();
  }
}

}  // namespace

GenerationCall::GenerationCall(RpcContext& context, const grpc::CallbackServerContext& call)
    : context_(context), deadline_(DeadlineOf(call)) {}

absl::StatusOr<PreparedRequest> GenerationCall::Prepare(const grpc::ByteBuffer& bytes) {
  CAUSEWAY_ASSIGN_OR_RETURN(const Serving* serving, context_.state.Accepting());
  v1::GenerateRequest wire;
  CAUSEWAY_RETURN_IF_ERROR(ParseMessage(bytes, &wire));
  CAUSEWAY_ASSIGN_OR_RETURN(PreparedRequest prepared, PrepareRequest(wire, *serving));
  prepared.request.deadline = deadline_;
  request_id_ = prepared.request.request_id;
  engine_ = serving->engine;
  return prepared;
}

absl::Status GenerationCall::Submit(GenerationRequest request, std::shared_ptr<TokenSink> sink) {
  return engine_->Submit(std::move(request), std::move(sink));
}

void GenerationCall::OnCancel() {
  if (deadline_ - absl::Now() < kDeadlineSlack) timed_out_ = true;
  // NotFound means that it ended meanwhile.
  if (engine_ != nullptr) engine_->Cancel(request_id_).IgnoreError();
}

grpc::Status GenerationCall::Refuse(const absl::Status& status) {
  const Outcome outcome = OutcomeOf(status);
  context_.metrics->CountOutcome(outcome);
  Log(LogLevel::kInfo, "request refused",
      {{"request_id", request_id_}, {"outcome", OutcomeName(outcome)}, {"code", absl::StatusCodeToString(status.code())},
       {"message", std::string(status.message())}});
  return ToGrpcStatus(status);
}

grpc::Status GenerationCall::End(const GenerationEnd& end) {
  Outcome outcome = OutcomeOf(end);
  if (outcome == Outcome::kCancelled && timed_out_) outcome = Outcome::kDeadline;
  context_.metrics->CountOutcome(outcome);
  const absl::Status status = StatusOf(end, outcome);
  Log(outcome == Outcome::kError ? LogLevel::kError : LogLevel::kInfo, "request ended",
      {{"request_id", request_id_},
       {"outcome", OutcomeName(outcome)},
       {"prompt_tokens", end.prompt_tokens},
       {"generated_tokens", end.generated_tokens},
       {"cached_tokens", end.cached_tokens},
       {"queue_seconds", end.queue_seconds},
       {"prefill_seconds", end.prefill_seconds},
       {"decode_seconds", end.decode_seconds},
       {"error", outcome == Outcome::kError ? std::string(status.message()) : ""}});
  return ToGrpcStatus(status);
}

}  // namespace causeway
