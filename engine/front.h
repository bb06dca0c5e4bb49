// The front stands between callers and the loops that compute. It has the one queue and the names of requests, and it
// ends them all.
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
#include "engine/router.h"
#include "engine/waiting_requests.h"

namespace causeway {

// A request waits here until a loop can start it, so that any number of loops can share one queue. Thread-safe.
class Front {
 public:
  // `context_max` and `blocks` (of all loops' KV caches) are what the router goes by.
  Front(int loops, int64_t queue_max, int64_t context_max, int64_t blocks, const Clock* clock)
      : context_max_(context_max), clock_(clock), queue_max_(queue_max), loops_(loops), router_(loops, blocks) {}

  // Callers use these, on any thread.

  // Makes the request, given its handle, and queues it. Unavailable: the engine drains. ResourceExhausted: the queue is
  // full. AlreadyExists: its id is running.
  using MakeRequest = absl::FunctionRef<std::unique_ptr<ActiveRequest>(RequestHandle)>;
  absl::StatusOr<RequestHandle> Submit(const std::string& id, int32_t choices, MakeRequest make);
  void Cancel(RequestHandle request);
  absl::Status Cancel(const std::string& id);  // NotFound: no such request
  void SetQueueMax(int64_t queue_max);
  // Does what Engine::Drain says.
  bool Drain(absl::Time deadline);
  void Stop();  // makes the loops end
  void Wake();  // makes the loops look again at what they wait for

  struct Counts {
    int64_t waiting = 0, running = 0;  // numbers of requests
  };
  Counts counts() const;

  // Loops use these, each on its own thread.

  struct Commands {
    std::vector<RequestHandle> cancellations;  // requests that some loop may have
    // Requests that ended while they waited, and why. The loop that takes them tells their sinks.
    std::vector<std::pair<std::unique_ptr<ActiveRequest>, FinishReason>> ended;
    bool stop = false;
  };
  Commands TakeCommands(int loop);
  // Returns when there are commands, a request came, somebody called Wake, or at `deadline`.
  void AwaitCommands(int loop, absl::Time deadline);
  // Returns the first request, if `can_start` agrees to it and the router, which is asked about the loops that could
  // start it, chooses this one. Null: there is none, or it cannot start here now.
  std::unique_ptr<ActiveRequest> TakeRequest(int loop, absl::FunctionRef<bool(const ActiveRequest&)> can_start);
  // The loop can compute no more. Returns how many others can: if any, it gets no more requests, and else it gets all,
  // so that they end with its error and do not wait for nobody.
  int Lose(int loop);
  // A loop that was lost can compute again, and gets requests.
  void Return(int loop);
  void Admitted();                           // a step has the first sequence of a request
  void Ended(const ActiveRequest& request);  // to be called before its sink learns of it

 private:
  struct Loop {
    std::vector<RequestHandle> cancellations;
    bool wake = false;
    bool lost = false;
    bool refused = false;  // said that it cannot start the first request
  };

  void CancelLocked(RequestHandle request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WakeLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WakeOthers(int loop) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Router::Request RouteOf(const ActiveRequest& request) const;

  const int64_t context_max_;
  const Clock* const clock_;
  mutable absl::Mutex mutex_;
  int64_t queue_max_ ABSL_GUARDED_BY(mutex_);
  WaitingRequests queue_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::pair<std::unique_ptr<ActiveRequest>, FinishReason>> ended_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, RequestHandle> ids_ ABSL_GUARDED_BY(mutex_);  // requests submitted and not ended
  std::vector<Loop> loops_ ABSL_GUARDED_BY(mutex_);
  Router router_ ABSL_GUARDED_BY(mutex_);
  RequestHandle first_ ABSL_GUARDED_BY(mutex_) = 0;  // of the queue, when loops last said whether they can start it
  RequestHandle next_handle_ ABSL_GUARDED_BY(mutex_) = 1;
  int64_t waiting_ ABSL_GUARDED_BY(mutex_) = 0;  // how many of ids_ are not yet admitted
  bool draining_ ABSL_GUARDED_BY(mutex_) = false, stopping_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_FRONT_H_
