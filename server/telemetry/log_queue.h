// Lines on their way to a file descriptor that may not take them: a pipe that nobody reads, a stopped terminal.
#ifndef CAUSEWAY_SERVER_TELEMETRY_LOG_QUEUE_H_
#define CAUSEWAY_SERVER_TELEMETRY_LOG_QUEUE_H_

#include <cstdint>
#include <deque>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace causeway {

// Thread-safe. A thread of its own writes. Because that may be stuck in a write for ever, a queue is never destroyed.
class LogQueue {
 public:
  // `bytes_max` bounds what waits.
  static LogQueue* Make(int descriptor, size_t bytes_max);

  // Never waits for the descriptor: a line that finds no room is dropped.
  void Push(std::string line);
  // Waits until all is written that was pushed before, or until `timeout` has passed.
  void Flush(absl::Duration timeout);
  int64_t dropped() const;  // lines, since the start; those count that could not be written
  bool half_empty() const;

 private:
  LogQueue(int descriptor, size_t bytes_max);
  ~LogQueue() = default;
  void Run();
  bool HasLines() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return !lines_.empty(); }
  bool IsWritten() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return lines_.empty() && !writing_; }

  const int descriptor_;
  const size_t bytes_max_;
  mutable absl::Mutex mutex_;
  std::deque<std::string> lines_ ABSL_GUARDED_BY(mutex_);
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t dropped_ ABSL_GUARDED_BY(mutex_) = 0;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_TELEMETRY_LOG_QUEUE_H_
