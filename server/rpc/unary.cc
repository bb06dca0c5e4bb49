#include "server/rpc/unary.h"

#include "server/rpc/status_map.h"

namespace causeway {
namespace {

// Deletes itself once the call is done.
class UnaryReactor : public grpc::ServerUnaryReactor {
 public:
  UnaryReactor(const UnaryCall& call, std::function<void()> sent) : call_(call), sent_(std::move(sent)) {}

  // Call it once.
  void Answer(absl::StatusOr<grpc::ByteBuffer> answer) {
    ok_ = answer.ok();
    if (ok_) *call_.response = *std::move(answer);
    Finish(ToGrpcStatus(answer.status()));
  }

  void Answer(const UnaryWork& work, const Caller& caller) {
    if (call_.context->IsCancelled()) return Answer(absl::CancelledError("the call was cancelled"));
    Answer(work(caller));
  }

  void OnDone() override {
    if (ok_ && sent_ != nullptr) sent_();
    delete this;
  }

 private:
  const UnaryCall call_;
  const std::function<void()> sent_;
  bool ok_ = false;
};

}  // namespace

grpc::ServerUnaryReactor* StartUnary(RpcContext& context, const UnaryCall& call, UnaryWork work, UnaryOptions options) {
  auto* reactor = new UnaryReactor(call, std::move(options.sent));
  absl::StatusOr<Caller> caller = context.gate.Admit(call.method, call.context->peer());
  if (!caller.ok()) {
    reactor->Answer(caller.status());
  } else if (options.workers == nullptr) {
    reactor->Answer(work, *caller);
  } else {
    const absl::Status queued = options.workers->Push(
        options.bytes,
        [reactor, work = std::move(work), caller = *std::move(caller)] { reactor->Answer(work, caller); });
    if (!queued.ok()) reactor->Answer(queued);
  }
  return reactor;
}

}  // namespace causeway
