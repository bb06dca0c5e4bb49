#include "server/rpc/generate.h"

#include <memory>
#include <utility>

#include "engine/base/status.h"
#include "server/rpc/convert.h"
#include "server/rpc/generation_call.h"
#include "server/rpc/wire.h"

namespace causeway {
namespace {

// Gathers the deltas and answers at the end. It is shared, because gRPC and the engine release it at different times.
class GenerateReactor : public grpc::ServerUnaryReactor,
                        public TokenSink,
                        public std::enable_shared_from_this<GenerateReactor> {
 public:
  GenerateReactor(RpcContext& context, const grpc::CallbackServerContext& call, grpc::ByteBuffer* out)
      : call_(context, Method::kGenerate, call), out_(out) {}

  // Call it once, right after construction.
  void Begin(const grpc::ByteBuffer& bytes) {
    self_ = shared_from_this();
    call_.Prepare(bytes, [self = self_](absl::StatusOr<PreparedRequest> prepared) {
      if (absl::Status status = self->Start(std::move(prepared)); !status.ok())
        self->Finish(self->call_.Refuse(status));
    });
  }

  void OnDelta(GenerationDelta delta) override { AppendDelta(delta, shape_, response_.mutable_choices(delta.index)); }

  void OnEnd(GenerationEnd end) override {
    for (const ChoiceEnd& choice : end.choices) {
      v1::Choice* out = response_.mutable_choices(choice.index);
      out->set_finish_reason(ToWire(choice.reason));
      out->set_stop_match(choice.stop_match);
    }
    *response_.mutable_usage() = UsageOf(end);
    *response_.mutable_timing() = TimingOf(end);
    grpc::Status status = call_.End(end);
    if (status.ok()) *out_ = WriteMessage(response_);
    Finish(std::move(status));
  }

  void OnCancel() override { call_.OnCancel(); }
  void OnDone() override { self_.reset(); }

 private:
  absl::Status Start(absl::StatusOr<PreparedRequest> result) {
    CAUSEWAY_ASSIGN_OR_RETURN(PreparedRequest prepared, std::move(result));
    shape_ = std::move(prepared.output);
    response_.set_request_id(prepared.request.request_id);
    for (int32_t i = 0; i < prepared.request.n; ++i) {
      v1::Choice* choice = response_.add_choices();
      choice->set_index(i);
      AppendEcho(shape_, choice);
    }
    return call_.Submit(std::move(prepared.request), self_);
  }

  GenerationCall call_;
  grpc::ByteBuffer* const out_;  // belongs to gRPC, valid until Finish
  OutputShape shape_;
  // This is written before Submit, and then only by the engine's thread.
  v1::GenerateResponse response_;
  std::shared_ptr<GenerateReactor> self_;
};

}  // namespace

grpc::ServerUnaryReactor* HandleGenerate(RpcContext& context, grpc::CallbackServerContext* call,
                                         const grpc::ByteBuffer& request, grpc::ByteBuffer* response) {
  auto reactor = std::make_shared<GenerateReactor>(context, *call, response);
  reactor->Begin(request);
  return reactor.get();  // keeps itself until OnDone
}

}  // namespace causeway
