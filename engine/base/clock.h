// The time source of everything that waits or expires, so that tests can move time by hand.
#ifndef CAUSEWAY_ENGINE_BASE_CLOCK_H_
#define CAUSEWAY_ENGINE_BASE_CLOCK_H_

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace causeway {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  // Never goes back: the time is read from the monotonic clock, which is anchored to wall time at start.
  virtual absl::Time Now() const = 0;
  // The process's clock, which lives for ever.
  static const Clock* Real();
};

class FakeClock : public Clock {
 public:
  absl::Time Now() const override {
    absl::MutexLock lock(&mutex_);
    return now_;
  }
  void Advance(absl::Duration by) {
    absl::MutexLock lock(&mutex_);
    now_ += by;
  }

 private:
  mutable absl::Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_) = absl::FromUnixSeconds(1'000'000);
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_BASE_CLOCK_H_
