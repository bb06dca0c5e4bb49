#include "server/rpc/stream_writer.h"

#include <utility>

#include "server/rpc/status_map.h"

namespace causeway {

void StreamWriter::Open() {
  {
    absl::MutexLock lock(&mutex_);
    state_ = State::kIdle;
  }
  Write();
}

void StreamWriter::Refuse(const grpc::Status& status) {
  {
    absl::MutexLock lock(&mutex_);
    state_ = State::kFinished;
  }
  Finish(status);
}

void StreamWriter::End(const grpc::Status& status) {
  {
    absl::MutexLock lock(&mutex_);
    if (!end_.has_value()) end_ = status;
  }
  Write();
}

void StreamWriter::Write() {
  bool finish = false;
  {
    absl::MutexLock lock(&mutex_);
    if (state_ != State::kIdle) return;
    if (!gone_ && Next(&out_)) {
      state_ = State::kWriting;
    } else if (end_.has_value()) {
      state_ = State::kFinished;
      finish = true;
    } else {
      return;
    }
  }
  // This is outside the lock: only one thread gets here for each write, and gRPC may call back.
  if (finish) {
    Finish(*end_);
  } else {
    StartWrite(&out_);
  }
}

void StreamWriter::Gone() {
  bool first;
  {
    absl::MutexLock lock(&mutex_);
    first = !std::exchange(gone_, true);
  }
  if (first) OnGone();
}

void StreamWriter::OnWriteDone(bool ok) {
  {
    absl::MutexLock lock(&mutex_);
    state_ = State::kIdle;
  }
  if (!ok) Gone();
  Write();
}

void StreamWriter::OnCancel() {
  Gone();
  Write();
}

void StreamWriter::OnDone() { self_.reset(); }

StreamReactor* StreamOr(absl::StatusOr<StreamReactor*> stream) {
  class Refused : public StreamReactor {
   public:
    explicit Refused(const absl::Status& status) { Finish(ToGrpcStatus(status)); }
    void OnDone() override { delete this; }
  };
  return stream.ok() ? *stream : new Refused(stream.status());
}

}  // namespace causeway
