#include "server/rpc/generation_service.h"

#include "causeway/v1/generation.grpc.pb.h"
#include "engine/base/status.h"
#include "server/rpc/generate.h"
#include "server/rpc/limits.h"
#include "server/rpc/status_map.h"
#include "server/rpc/wire.h"

namespace causeway {
namespace {

using v1::Generation;
// Raw: the handlers parse, so that broken UTF-8 gets a proper answer (wire.h).
using RawGeneration = Generation::WithRawCallbackMethod_Generate<Generation::WithRawCallbackMethod_GenerateStream<
    Generation::WithRawCallbackMethod_Tokenize<Generation::WithRawCallbackMethod_Detokenize<Generation::Service>>>>;

class GenerationService final : public RawGeneration {
 public:
  explicit GenerationService(RpcContext& context) : context_(context) {}

  grpc::ServerUnaryReactor* Generate(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override {
    return HandleGenerate(context_, call, *request, response);
  }
  StreamReactor* GenerateStream(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request) override {
    return HandleGenerateStream(context_, call, *request);
  }
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override {
    return Answer<v1::TokenizeRequest>(call, *request, response, HandleTokenize);
  }
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override {
    return Answer<v1::DetokenizeRequest>(call, *request, response, HandleDetokenize);
  }

 private:
  template <typename Request, typename Handler>
  grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* call, const grpc::ByteBuffer& bytes,
                                   grpc::ByteBuffer* out, Handler handler) {
    grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
    // All of them are gRPC's, and there until Finish.
    const auto work = [this, call, &bytes, out, handler, reactor] {
      reactor->Finish(ToGrpcStatus(Handle<Request>(*call, bytes, out, handler)));
    };
    if (bytes.Length() <= kInlineBytesMax) {
      work();
    } else if (absl::Status status = context_.workers.Push(bytes.Length(), work); !status.ok()) {
      reactor->Finish(ToGrpcStatus(status));
    }
    return reactor;
  }

  template <typename Request, typename Handler>
  absl::Status Handle(const grpc::CallbackServerContext& call, const grpc::ByteBuffer& bytes, grpc::ByteBuffer* out,
                      Handler handler) {
    if (call.IsCancelled()) return absl::CancelledError("the call was cancelled");
    Request request;
    CAUSEWAY_RETURN_IF_ERROR(ParseMessage(bytes, &request));
    CAUSEWAY_ASSIGN_OR_RETURN(const auto response, handler(context_, request));
    *out = WriteMessage(response);
    return absl::OkStatus();
  }

  RpcContext& context_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeGenerationService(RpcContext& context) {
  return std::make_unique<GenerationService>(context);
}

}  // namespace causeway
