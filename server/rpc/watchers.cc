#include "server/rpc/watchers.h"

#include <utility>

#include <grpcpp/alarm.h>

namespace causeway {

// It has no queue: all that waits is whether the value is to be sent again.
class Watchers::Stream final : public StreamWriter {
 public:
  Stream(Watchers* owner, Value value, std::chrono::milliseconds interval)
      : owner_(owner), value_(std::move(value)), interval_(interval) {}

  void Begin() {
    Attach();
    Open();
  }

  void Poke() {
    {
      absl::MutexLock lock(&mutex_);
      dirty_ = true;
    }
    Write();
  }

  void Stop() { End(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the daemon stops")); }

  void OnDone() override {
    owner_->Remove(std::static_pointer_cast<Stream>(shared_from_this()));
    StreamWriter::OnDone();
  }

 private:
  bool Next(grpc::ByteBuffer* message) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!std::exchange(dirty_, false)) {
      SetAlarm();
      return false;
    }
    *message = value_();
    return true;
  }

  void OnGone() override { End(grpc::Status::CANCELLED); }

  void SetAlarm() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (interval_.count() == 0 || std::exchange(alarm_set_, true)) return;
    // The pointer is weak, because the alarm keeps its callback for as long as it lives, and the stream owns the alarm.
    alarm_.Set(std::chrono::system_clock::now() + interval_, [this, weak = weak_from_this()](bool due) {
      const std::shared_ptr<StreamWriter> self = weak.lock();
      if (!due || self == nullptr) return;
      {
        absl::MutexLock lock(&mutex_);
        alarm_set_ = false;
      }
      Poke();
    });
  }

  Watchers* const owner_;
  const Value value_;
  const std::chrono::milliseconds interval_;
  grpc::Alarm alarm_ ABSL_GUARDED_BY(mutex_);
  bool alarm_set_ ABSL_GUARDED_BY(mutex_) = false;
  bool dirty_ ABSL_GUARDED_BY(mutex_) = true;
};

StreamReactor* Watchers::Open(Value value, std::chrono::milliseconds interval) {
  auto stream = std::make_shared<Stream>(this, std::move(value), interval);
  bool stopped;
  {
    // This comes before the first value is made, so that a change in between pokes the stream.
    absl::MutexLock lock(&mutex_);
    stopped = stopped_;
    if (!stopped) streams_.insert(stream);
  }
  stream->Begin();
  if (stopped) stream->Stop();
  return stream.get();  // keeps itself until OnDone
}

void Watchers::Poke() {
  for (const std::shared_ptr<Stream>& stream : Streams()) stream->Poke();
}

void Watchers::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
  }
  for (const std::shared_ptr<Stream>& stream : Streams()) stream->Stop();
}

std::set<std::shared_ptr<Watchers::Stream>> Watchers::Streams() {
  absl::MutexLock lock(&mutex_);
  return streams_;
}

void Watchers::Remove(const std::shared_ptr<Stream>& stream) {
  absl::MutexLock lock(&mutex_);
  streams_.erase(stream);
}

}  // namespace causeway
