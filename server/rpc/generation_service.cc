#include "server/rpc/generation_service.h"

#include "causeway/v1/generation.grpc.pb.h"
#include "server/rpc/generate.h"
#include "server/rpc/limits.h"
#include "server/rpc/unary.h"

namespace causeway {
namespace {

using v1::Generation;
// The methods are raw: the handlers parse, so that broken UTF-8 gets a proper answer (wire.h).
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
    return AnswerUnary<v1::TokenizeRequest>(context_, {Method::kTokenize, call, request, response}, HandleTokenize,
                                            OfText(request->Length()));
  }
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override {
    return AnswerUnary<v1::DetokenizeRequest>(context_, {Method::kDetokenize, call, request, response},
                                              HandleDetokenize, OfText(request->Length()));
  }

 private:
  UnaryOptions OfText(size_t bytes) {
    if (bytes <= kInlineBytesMax) return {};
    return {.workers = &context_.workers, .bytes = bytes};
  }

  RpcContext& context_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeGenerationService(RpcContext& context) {
  return std::make_unique<GenerationService>(context);
}

}  // namespace causeway
