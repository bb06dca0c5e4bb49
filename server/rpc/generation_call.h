// What a unary and a streamed generation share: one request from its bytes to its one outcome.
#ifndef CAUSEWAY_SERVER_RPC_GENERATION_CALL_H_
#define CAUSEWAY_SERVER_RPC_GENERATION_CALL_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "server/rpc/gate.h"
#include "server/rpc/prepare_request.h"
#include "server/rpc/serving.h"
#include "server/rpc/wire.h"

namespace causeway {

// The constructor asks the gate. The owner calls Prepare, then Submit, then End once; or Refuse once, when Prepare or
// Submit failed. OnCancel may come at any time from any thread.
class GenerationCall {
 public:
  GenerationCall(RpcContext& context, Method method, const grpc::CallbackServerContext& call);

  // Parses and validates, and calls `then` once with the result. It does so before it returns, or on one of the
  // context's workers where that takes long. `then` must hold what keeps this object alive.
  using Then = std::function<void(absl::StatusOr<PreparedRequest>)>;
  void Prepare(const grpc::ByteBuffer& bytes, Then then);
  // The same for a request that was made of a parsed message of `bytes` bytes.
  void Prepare(v1::GenerateRequest wire, size_t bytes, Then then);
  // Returns the gate's refusal, or what is wrong with the bytes. The log's line about either has the message's request
  // id.
  template <typename Message>
  absl::Status Parse(const grpc::ByteBuffer& bytes, Message* wire) {
    // gRPC also delivers a call that was given up before its message came, without a message.
    arrived_ = bytes.Valid();
    if (!arrived_) return absl::CancelledError("the call ended before its message came");
    absl::Status status = caller_.status();
    status.Update(ParseMessage(bytes, wire));
    if (CheckRequestId(wire->request_id()).ok()) request_id_ = wire->request_id();
    return status;
  }
  absl::Status Submit(GenerationRequest request, std::shared_ptr<TokenSink> sink);

  // REQUIRES: the call was admitted.
  Engine& engine() { return *caller_->serving->engine; }

  // Frees what the request holds when the client has gone, or its deadline has passed.
  void OnCancel();

  // Both count the outcome, write the log's line and return the status to finish the call with. A call whose message
  // never came concerns its client alone: it is neither counted nor logged.
  grpc::Status Refuse(const absl::Status& status);
  grpc::Status End(const GenerationEnd& end);

 private:
  absl::StatusOr<PreparedRequest> Validate(const v1::GenerateRequest& wire);

  RpcContext& context_;
  const absl::StatusOr<Caller> caller_;
  bool arrived_ = false;  // whether the message came
  std::string request_id_, grammar_field_;
  absl::Time deadline_ = absl::InfiniteFuture();
  std::atomic<bool> timed_out_{false}, cancelled_{false};
  std::atomic<RequestHandle> submitted_{0};  // 0: not submitted, or not yet
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_GENERATION_CALL_H_
