// What stands between callers and the loops that compute: the one queue, the names of requests, and the end of it all.
#ifndef CAUSEWAY_ENGINE_FRONT_H_
#define CAUSEWAY_ENGINE_FRONT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/base/clock.h"
#include "engine/batch/finish.h"
#include "engine/engine.h"
#include "engine/request.h"
#include "engine/waiting_requests.h"

namespace causeway {

// A request waits here until a loop can start it, so that any number of loops can share one queue. Thread-safe.
class Front {
 public:
  Front(int loops, int64_t queue_max, const Clock* clock) : queue_max_(queue_max), clock_(clock), loops_(loops) {}

  // For callers, on any thread.

  // Makes the request, given its handle, and queues it. Unavailable: the engine drains. ResourceExhausted: the queue is
  // full. AlreadyExists: its id is running.
  using MakeRequest = absl::FunctionRef<std::unique_ptr<ActiveRequest>(RequestHandle)>;
  absl::StatusOr<RequestHandle> Submit(const std::string& id, int32_t choices, MakeRequest make);
  void Cancel(RequestHandle request);
  absl::Status Cancel(const std::string& id);  // NotFound
  // As Engine::Drain.
  bool Drain(absl::Time deadline);
  void Stop();  // loops end
  void Wake();  // loops look again at what they wait for

  struct Counts {
    int64_t waiting = 0, running = 0;  // requests
  };
  Counts counts() const;

  // For loops, each on its own thread.

  struct Commands {
    std::vector<RequestHandle> cancellations;  // of requests that some loop may have
    // Requests that ended while they waited, and why: whoever takes them tells their sinks.
    std::vector<std::pair<std::unique_ptr<ActiveRequest>, FinishReason>> ended;
    bool stop = false;
  };
  Commands TakeCommands(int loop);
  // Returns when there are commands, a request came, somebody called Wake, or at `deadline`.
  void AwaitCommands(int loop, absl::Time deadline);
  // The request that is next, if `can_start` says so of it; null: none is, or it cannot.
  std::unique_ptr<ActiveRequest> TakeRequest(absl::FunctionRef<bool(const ActiveRequest&)> can_start);
  void Admitted();                           // a first sequence of a request is in a step
  void Ended(const ActiveRequest& request);  // before its sink learns of it

 private:
  struct Loop {
    std::vector<RequestHandle> cancellations;
    bool wake = false;
  };

  void CancelLocked(RequestHandle request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WakeLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int64_t queue_max_;
  const Clock* const clock_;
  mutable absl::Mutex mutex_;
  WaitingRequests queue_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::pair<std::unique_ptr<ActiveRequest>, FinishReason>> ended_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, RequestHandle> ids_ ABSL_GUARDED_BY(mutex_);  // of requests submitted and not ended
  std::vector<Loop> loops_ ABSL_GUARDED_BY(mutex_);
  RequestHandle next_handle_ ABSL_GUARDED_BY(mutex_) = 1;
  int64_t waiting_ ABSL_GUARDED_BY(mutex_) = 0;  // of those of ids_, not yet admitted
  bool draining_ ABSL_GUARDED_BY(mutex_) = false, stopping_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_FRONT_H_
