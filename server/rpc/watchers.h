// Streams that send a value as it is now: the health status, the daemon's status. Each keeps one write in flight and
// sends the latest value when it is done; a slow reader misses values in between and holds up nobody.
#ifndef CAUSEWAY_SERVER_RPC_WATCHERS_H_
#define CAUSEWAY_SERVER_RPC_WATCHERS_H_

#include <chrono>
#include <functional>
#include <memory>
#include <set>
#include <utility>

#include <grpcpp/alarm.h>
#include <grpcpp/support/server_callback.h>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace causeway {

// The open streams of one kind. Outlives the server they run on. Thread-safe.
template <typename Response>
class Watchers {
 public:
  // Makes the value to send. Called by any thread, under a stream's lock.
  using Value = std::function<Response()>;

  // Opens a stream, which sends its value at once, whenever it is poked and, unless `interval` is zero, so long after
  // the last time. After Stop, it ends at once.
  grpc::ServerWriteReactor<Response>* Open(Value value, std::chrono::milliseconds interval = {}) {
    auto stream = std::make_shared<Stream>(this, std::move(value), interval);
    bool stopped;
    {
      // Before the first value is made: a change that comes meanwhile pokes the stream.
      absl::MutexLock lock(&mutex_);
      stopped = stopped_;
      if (!stopped) streams_.insert(stream);
    }
    stream->Begin();
    if (stopped) stream->Stop(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the daemon stops"));
    return stream.get();
  }

  // Every stream sends its value anew.
  void Poke() {
    for (const std::shared_ptr<Stream>& stream : Streams()) stream->Poke();
  }

  // Ends every stream, after the value of its last poke, and those opened from now on.
  void Stop(const grpc::Status& status) {
    {
      absl::MutexLock lock(&mutex_);
      stopped_ = true;
    }
    for (const std::shared_ptr<Stream>& stream : Streams()) stream->Stop(status);
  }

 private:
  // Shared: by gRPC until the call is done, and by whoever is poking it at that moment.
  class Stream : public grpc::ServerWriteReactor<Response>, public std::enable_shared_from_this<Stream> {
   public:
    Stream(Watchers* owner, Value value, std::chrono::milliseconds interval)
        : owner_(owner), value_(std::move(value)), interval_(interval) {}

    void Begin() {
      self_ = this->shared_from_this();
      Poke();
    }
    void Poke() {
      absl::MutexLock lock(&mutex_);
      dirty_ = true;
      Advance();
    }
    void Stop(const grpc::Status& status) {
      absl::MutexLock lock(&mutex_);
      if (!stopping_) end_ = status;
      stopping_ = true;
      alarm_.Cancel();
      Advance();
    }
    void OnWriteDone(bool ok) override {
      absl::MutexLock lock(&mutex_);
      writing_ = false;
      if (!ok && !stopping_) stopping_ = true, end_ = grpc::Status::CANCELLED;
      Advance();
      if (interval_.count() == 0 || writing_ || stopping_) return;
      // Weak: the alarm keeps its callback for as long as it lives, and the stream owns the alarm.
      alarm_.Set(std::chrono::system_clock::now() + interval_, [weak = this->weak_from_this()](bool due) {
        if (!due) return;
        if (const std::shared_ptr<Stream> self = weak.lock()) self->Poke();
      });
    }
    void OnCancel() override { Stop(grpc::Status::CANCELLED); }
    void OnDone() override {
      owner_->Remove(self_);
      self_.reset();
    }

   private:
    void Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      if (writing_ || finished_) return;
      if (dirty_) {
        dirty_ = false;
        writing_ = true;
        out_ = value_();
        this->StartWrite(&out_);
      } else if (stopping_) {
        finished_ = true;
        this->Finish(end_);
      }
    }

    Watchers* const owner_;
    const Value value_;
    const std::chrono::milliseconds interval_;
    absl::Mutex mutex_;
    grpc::Alarm alarm_ ABSL_GUARDED_BY(mutex_);
    Response out_;  // of the write in flight
    grpc::Status end_ ABSL_GUARDED_BY(mutex_);
    bool dirty_ ABSL_GUARDED_BY(mutex_) = false, writing_ ABSL_GUARDED_BY(mutex_) = false;
    bool stopping_ ABSL_GUARDED_BY(mutex_) = false, finished_ ABSL_GUARDED_BY(mutex_) = false;
    std::shared_ptr<Stream> self_;
  };

  std::set<std::shared_ptr<Stream>> Streams() {
    absl::MutexLock lock(&mutex_);
    return streams_;
  }
  void Remove(const std::shared_ptr<Stream>& stream) {
    absl::MutexLock lock(&mutex_);
    streams_.erase(stream);
  }

  absl::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<std::shared_ptr<Stream>> streams_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_WATCHERS_H_
