#include "server/rpc/generation_call.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "server/rpc/convert.h"
#include "server/rpc/limits.h"
#include "server/rpc/status_map.h"
#include "server/telemetry/log.h"

namespace causeway {
namespace {

// A client whose deadline passes resets the stream at that moment of its own clock, and the network adds a delay. A
// cancellation this close to the deadline counts as the deadline.
constexpr absl::Duration kDeadlineSlack = absl::Milliseconds(100);

// gRPC's deadline is in wall-clock time, which may be set while a request waits; the engine's clock cannot be.
absl::Time DeadlineOf(const grpc::CallbackServerContext& call) {
  const std::chrono::system_clock::time_point deadline = call.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return absl::InfiniteFuture();
  return Clock::Real()->Now() + absl::FromChrono(deadline - std::chrono::system_clock::now());
}

absl::Status StatusOf(const GenerationEnd& end, Outcome outcome, const std::string& grammar_field) {
  // In a running request, only its grammar can be wrong.
  if (absl::IsInvalidArgument(end.status) && !grammar_field.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(grammar_field, ": ", std::string(end.status.message())));
  }
  if (!end.status.ok()) return end.status;
  switch (outcome) {
    case Outcome::kError: return absl::InternalError("the step that computed the request failed");
    case Outcome::kDeadline: return absl::DeadlineExceededError("the deadline passed before the request was done");
    case Outcome::kCancelled: return absl::CancelledError("the request was cancelled");
    default: return absl::OkStatus();
  }
}

// The part of a status that a log may hold. Messages about the request start with the name of a field, and quote the
// request's texts after it.
std::string ForLog(const absl::Status& status) {
  const absl::string_view message = status.message();
  return std::string(absl::IsInvalidArgument(status) ? message.substr(0, message.find(": ")) : message);
}

}  // namespace

GenerationCall::GenerationCall(RpcContext& context, Method method, const grpc::CallbackServerContext& call)
    : context_(context), caller_(context.gate.Admit(method, call.peer())), deadline_(DeadlineOf(call)) {}

void GenerationCall::Prepare(const grpc::ByteBuffer& bytes, Then then) {
  v1::GenerateRequest wire;
  if (absl::Status parsed = Parse(bytes, &wire); !parsed.ok()) return then(parsed);
  Prepare(std::move(wire), bytes.Length(), std::move(then));
}

void GenerationCall::Prepare(v1::GenerateRequest wire, size_t bytes, Then then) {
  if (!wire.has_grammar() && bytes <= kInlineBytesMax) return then(Validate(wire));
  const absl::Status queued = context_.workers.Push(bytes, [this, then, wire = std::move(wire)] {
    if (timed_out_ || Clock::Real()->Now() >= deadline_)
      return then(absl::DeadlineExceededError("the deadline passed before the request was prepared"));
    if (cancelled_) return then(absl::CancelledError("the request was cancelled"));
    then(Validate(wire));
  });
  if (!queued.ok()) then(queued);
}

absl::StatusOr<PreparedRequest> GenerationCall::Validate(const v1::GenerateRequest& wire) {
  CAUSEWAY_ASSIGN_OR_RETURN(PreparedRequest prepared, PrepareRequest(wire, *caller_->serving));
  prepared.request.deadline = deadline_;
  request_id_ = prepared.request.request_id;
  grammar_field_ = prepared.grammar_field;
  return prepared;
}

absl::Status GenerationCall::Submit(GenerationRequest request, std::shared_ptr<TokenSink> sink) {
  CAUSEWAY_ASSIGN_OR_RETURN(const RequestHandle handle, engine().Submit(std::move(request), std::move(sink)));
  submitted_ = handle;
  if (cancelled_) engine().Cancel(handle);
  return absl::OkStatus();
}

void GenerationCall::OnCancel() {
  if (deadline_ - Clock::Real()->Now() < kDeadlineSlack) timed_out_ = true;
  // Submit or this function comes second, and sees what the other one wrote.
  cancelled_ = true;
  if (const RequestHandle handle = submitted_; handle != 0) engine().Cancel(handle);
}

grpc::Status GenerationCall::Refuse(const absl::Status& status) {
  if (!arrived_) return ToGrpcStatus(status);
  const Outcome outcome = OutcomeOf(status);
  context_.metrics->CountOutcome(outcome);
  Log(LogLevel::kInfo, "request refused",
      {{"request_id", request_id_},
       {"outcome", OutcomeName(outcome)},
       {"code", absl::StatusCodeToString(status.code())},
       {"message", ForLog(status)}});
  return ToGrpcStatus(status);
}

grpc::Status GenerationCall::End(const GenerationEnd& end) {
  Outcome outcome = OutcomeOf(end);
  if (outcome == Outcome::kCancelled && timed_out_) outcome = Outcome::kDeadline;
  context_.metrics->CountOutcome(outcome);
  const absl::Status status = StatusOf(end, outcome, grammar_field_);
  Log(outcome == Outcome::kError ? LogLevel::kError : LogLevel::kInfo, "request ended",
      {{"request_id", request_id_},
       {"outcome", OutcomeName(outcome)},
       {"prompt_tokens", end.prompt_tokens},
       {"generated_tokens", end.generated_tokens},
       {"cached_tokens", end.cached_tokens},
       {"queue_seconds", end.queue_seconds},
       {"prefill_seconds", end.prefill_seconds},
       {"decode_seconds", end.decode_seconds},
       {"error", outcome == Outcome::kError || !end.status.ok() ? ForLog(status) : ""}});
  return ToGrpcStatus(status);
}

}  // namespace causeway
