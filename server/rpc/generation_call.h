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

// Asks the gate at once. The owner calls Prepare, then Submit, then End once; or Refuse once, when either failed.
// OnCancel may come at any time from any thread.
class GenerationCall {
 public:
  GenerationCall(RpcContext& context, Method method, const grpc::CallbackServerContext& call);

  // Parses and validates, and calls `then` once with what came of it: before this returns, or where it is work, on one
  // of the context's workers. What `then` holds keeps this alive.
  using Then = std::function<void(absl::StatusOr<PreparedRequest>)>;
  void Prepare(const grpc::ByteBuffer& bytes, Then then);
  // The same for a request that was made of a parsed message of so many bytes.
  void Prepare(v1::GenerateRequest wire, size_t bytes, Then then);
  // The gate's refusal, or what is wrong with the bytes. The line of either in the log has the message's request id.
  template <typename Message>
  absl::Status Parse(const grpc::ByteBuffer& bytes, Message* wire) {
    // gRPC hands on a call that was given up before its message had come, and nothing as its message.
    arrived_ = bytes.Valid();
    if (!arrived_) return absl::CancelledError("the call ended before its message came");
    absl::Status status = caller_.status();
    status.Update(ParseMessage(bytes, wire));
    if (CheckRequestId(wire->request_id()).ok()) request_id_ = wire->request_id();
    return status;
  }
  absl::Status Submit(GenerationRequest request, std::shared_ptr<TokenSink> sink);

  // Once admitted.
  Engine& engine() { return *caller_->serving->engine; }

  // The client has gone, or its deadline has passed: frees what the request holds.
  void OnCancel();

  // Both count the outcome, write the log's line and give the status to finish the call with. A call whose message
  // never came is its client's alone: it is neither counted nor logged.
  grpc::Status Refuse(const absl::Status& status);
  grpc::Status End(const GenerationEnd& end);

 private:
  absl::StatusOr<PreparedRequest> Validate(const v1::GenerateRequest& wire);

  RpcContext& context_;
  const absl::StatusOr<Caller> caller_;
  bool arrived_ = false;  // the message
  std::string request_id_, grammar_field_;
  absl::Time deadline_ = absl::InfiniteFuture();
  std::atomic<bool> timed_out_{false}, cancelled_{false};
  std::atomic<RequestHandle> submitted_{0};  // 0: not, or not yet
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_GENERATION_CALL_H_
