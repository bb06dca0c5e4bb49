#include <memory>
#include <optional>
#include <utility>

#include "engine/base/status.h"
#include "server/rpc/generate.h"
#include "server/rpc/generation_call.h"
#include "server/rpc/stream_events.h"
#include "server/rpc/wire.h"

namespace causeway {
namespace {

// StreamEvents merges what waits for a write.
class GenerationStream final : public StreamWriter, public TokenSink {
 public:
  GenerationStream(RpcContext& context, const grpc::CallbackServerContext& call)
      : call_(context, Method::kGenerateStream, call) {}

  // Call it once, right after construction.
  void Begin(const grpc::ByteBuffer& bytes) {
    Attach();
    call_.Prepare(bytes, [this, self = shared_from_this()](absl::StatusOr<PreparedRequest> prepared) {
      if (absl::Status status = Start(std::move(prepared)); !status.ok()) return Refuse(call_.Refuse(status));
      Open();
    });
  }

  void OnDelta(GenerationDelta delta) override {
    {
      absl::MutexLock lock(&mutex_);
      if (gone()) return;
      events_->Add(delta);
    }
    Write();
  }

  void OnEnd(GenerationEnd end) override {
    const grpc::Status status = call_.End(end);
    {
      absl::MutexLock lock(&mutex_);
      events_->End(end);
    }
    End(status);
  }

 private:
  absl::Status Start(absl::StatusOr<PreparedRequest> result) {
    CAUSEWAY_ASSIGN_OR_RETURN(PreparedRequest prepared, std::move(result));
    {
      absl::MutexLock lock(&mutex_);
      events_.emplace(prepared.request, std::move(prepared.output));
    }
    return call_.Submit(std::move(prepared.request), std::shared_ptr<TokenSink>(shared_from_this(), this));
  }

  bool Next(grpc::ByteBuffer* message) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    v1::GenerateStreamResponse response;
    if (!events_->Next(&response)) return false;
    *message = WriteMessage(response);
    return true;
  }

  void OnGone() override { call_.OnCancel(); }

  GenerationCall call_;
  std::optional<StreamEvents> events_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

StreamReactor* HandleGenerateStream(RpcContext& context, grpc::CallbackServerContext* call,
                                    const grpc::ByteBuffer& request) {
  auto stream = std::make_shared<GenerationStream>(context, *call);
  stream->Begin(request);
  return stream.get();  // keeps itself until OnDone
}

}  // namespace causeway
