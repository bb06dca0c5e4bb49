// How every stream of the daemon is written. One write is in flight. What comes meanwhile waits in the stream's own
// buffer, which merges it as it sees fit. So a slow reader holds up nobody.
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

// Shared, because gRPC and those who bring data release it at different times. Thread-safe: any thread may call Write
// and End, which only take a short lock and start a write.
class StreamWriter : public StreamReactor, public std::enable_shared_from_this<StreamWriter> {
 public:
  void OnWriteDone(bool ok) final;
  void OnCancel() final;
  void OnDone() override;

 protected:
  // From now on gRPC has the stream, until the call is done. Call it once, before all others.
  void Attach() { self_ = shared_from_this(); }
  // Nothing is written before this, and the call may still be refused. Call it once, unless Refuse is called.
  void Open();
  // Finishes the call without a message.
  void Refuse(const grpc::Status& status);
  // Says that Next may have something to send.
  void Write();
  // Finishes the call once Next has nothing left. Of several calls the first one's status counts.
  void End(const grpc::Status& status);

  // Gives the next message. Returns false when there is none, or none yet. Any thread calls it, when no write is in
  // flight.
  virtual bool Next(grpc::ByteBuffer* message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;
  // The reader is gone, and nothing more is written. It is called once, without the lock. The subclass then calls End,
  // now or later, unless Refuse is called.
  virtual void OnGone() = 0;

  bool gone() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return gone_; }
  absl::Mutex mutex_;  // also guards what Next reads

 private:
  enum class State { kClosed, kIdle, kWriting, kFinished };

  void Gone();

  State state_ ABSL_GUARDED_BY(mutex_) = State::kClosed;
  bool gone_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<grpc::Status> end_;  // written once under the lock, before the state may become kFinished
  grpc::ByteBuffer out_;             // the write in flight
  std::shared_ptr<StreamWriter> self_;
};

// Returns the stream, or one that ends with the status before anything is written.
StreamReactor* StreamOr(absl::StatusOr<StreamReactor*> stream);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_STREAM_WRITER_H_
