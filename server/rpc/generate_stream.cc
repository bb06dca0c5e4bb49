#include <memory>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "engine/base/status.h"
#include "server/rpc/generate.h"
#include "server/rpc/generation_call.h"
#include "server/rpc/stream_events.h"
#include "server/rpc/wire.h"

namespace causeway {
namespace {

// One write in flight; what comes meanwhile is merged in StreamEvents. The engine's thread only ever takes a short lock
// and starts a write. Shared, because gRPC and the engine let go of it each in its own time.
class StreamReactor : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                      public TokenSink,
                      public std::enable_shared_from_this<StreamReactor> {
 public:
  StreamReactor(RpcContext& context, const grpc::CallbackServerContext& call) : call_(context, call) {}

  // Once, right after construction.
  void Begin(const grpc::ByteBuffer& bytes) {
    self_ = shared_from_this();
    call_.Prepare(bytes, [self = self_](absl::StatusOr<PreparedRequest> prepared) {
      if (absl::Status status = self->Start(std::move(prepared)); !status.ok())
        return self->Finish(self->call_.Refuse(status));
      self->MaybeWrite();
    });
  }

  void OnDelta(GenerationDelta delta) override {
    {
      absl::MutexLock lock(&mutex_);
      if (broken_) return;
      events_->Add(delta);
    }
    MaybeWrite();
  }

  void OnEnd(GenerationEnd end) override {
    grpc::Status status = call_.End(end);
    {
      absl::MutexLock lock(&mutex_);
      events_->End(end);
      end_ = std::move(status);
    }
    MaybeWrite();
  }

  void OnWriteDone(bool ok) override {
    {
      absl::MutexLock lock(&mutex_);
      writing_ = false;
      if (!ok) broken_ = true;  // OnCancel follows, or has come, and cancels the request
    }
    MaybeWrite();
  }

  void OnCancel() override {
    {
      absl::MutexLock lock(&mutex_);
      broken_ = true;
    }
    call_.OnCancel();
    MaybeWrite();
  }

  void OnDone() override { self_.reset(); }

 private:
  absl::Status Start(absl::StatusOr<PreparedRequest> result) {
    CAUSEWAY_ASSIGN_OR_RETURN(PreparedRequest prepared, std::move(result));
    {
      absl::MutexLock lock(&mutex_);
      events_.emplace(prepared.request, std::move(prepared.output));
    }
    CAUSEWAY_RETURN_IF_ERROR(call_.Submit(std::move(prepared.request), self_));
    absl::MutexLock lock(&mutex_);
    accepted_ = true;
    return absl::OkStatus();
  }

  // Starts the next write, or finishes the call, unless a write is in flight.
  void MaybeWrite() {
    bool finish = false;
    {
      absl::MutexLock lock(&mutex_);
      if (!accepted_ || writing_ || finished_) return;
      v1::GenerateStreamResponse message;
      if (!broken_ && events_->Next(&message)) {
        out_ = WriteMessage(message);
        writing_ = true;
      } else if (end_.has_value()) {
        finished_ = finish = true;
      } else {
        return;
      }
    }
    // Outside the lock: only one thread gets here for each write, and gRPC may call back.
    if (finish) {
      Finish(*end_);
    } else {
      StartWrite(&out_);
    }
  }

  GenerationCall call_;
  grpc::ByteBuffer out_;  // of the write in flight
  absl::Mutex mutex_;
  std::optional<StreamEvents> events_ ABSL_GUARDED_BY(mutex_);
  bool accepted_ ABSL_GUARDED_BY(mutex_) = false;  // by the engine; nothing is written before
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;  // the reader is gone; nothing more is written
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<grpc::Status> end_;  // written once under the lock, before finished_ may be set
  std::shared_ptr<StreamReactor> self_;
};

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* HandleGenerateStream(RpcContext& context, grpc::CallbackServerContext* call,
                                                                 const grpc::ByteBuffer& request) {
  auto reactor = std::make_shared<StreamReactor>(context, *call);
  reactor->Begin(request);
  return reactor.get();  // kept by itself until OnDone
}

}  // namespace causeway
