// How every stream of the daemon is written: one write is in flight, and what comes meanwhile waits in what the stream
// is made of, which merges it as it sees fit. So a slow reader holds up nobody.
#ifndef CAUSEWAY_SERVER_RPC_STREAM_WRITER_H_
#define CAUSEWAY_SERVER_RPC_STREAM_WRITER_H_

#include <memory>
#include <optional>

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

namespace causeway {

using StreamReactor = grpc::ServerWriteReactor<grpc::ByteBuffer>;

// Shared, because gRPC and those who bring what is to be sent let go of it each in its own time. Thread-safe: any
// thread may call Write and End, which take a short lock and start a write, no more.
class StreamWriter : public StreamReactor, public std::enable_shared_from_this<StreamWriter> {
 public:
  void OnWriteDone(bool ok) final;
  void OnCancel() final;
  void OnDone() override;

 protected:
  // gRPC has the stream from now on, until the call is done. Call once, first.
  void Attach() { self_ = shared_from_this(); }
  // Nothing is written before this; the call may still be refused. Call once, unless Refuse is.
  void Open();
  // Finishes the call without a message.
  void Refuse(const grpc::Status& status);
  // Next may have something to send.
  void Write();
  // Finishes the call once Next has nothing left; of several calls the first one's status counts.
  void End(const grpc::Status& status);

  // The next message; false when there is none, or none yet. Called when no write is in flight, by any thread.
  virtual bool Next(grpc::ByteBuffer* message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;
  // The reader is gone, and nothing more is written. Called once, without the lock. Whoever hears it calls End, now or
  // later, unless Refuse is called.
  virtual void OnGone() = 0;

  bool gone() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return gone_; }
  absl::Mutex mutex_;  // of what Next reads, too

 private:
  enum class State { kClosed, kIdle, kWriting, kFinished };

  void Gone();

  State state_ ABSL_GUARDED_BY(mutex_) = State::kClosed;
  bool gone_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<grpc::Status> end_;  // written once under the lock, before the state may be kFinished
  grpc::ByteBuffer out_;             // of the write in flight
  std::shared_ptr<StreamWriter> self_;
};

// The stream, or one that ends with the status before anything is written.
StreamReactor* StreamOr(absl::StatusOr<StreamReactor*> stream);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_STREAM_WRITER_H_
