// The loop that computes. It has one scheduler and one executor, and gets its requests from the front.
#ifndef CAUSEWAY_ENGINE_ENGINE_LOOP_H_
#define CAUSEWAY_ENGINE_ENGINE_LOOP_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/base/clock.h"
#include "engine/engine.h"
#include "engine/execution/executor.h"
#include "engine/front.h"
#include "engine/request.h"
#include "engine/schedule/scheduler.h"

namespace causeway {

// A thread of its own makes all calls of the scheduler, of the executor's Run and Wait, and of the requests that it has
// taken from the front. The front must be stopped before this is destroyed.
class EngineLoop {
 public:
  // `index` is the loop's number at the front. `observer` and `on_device_failure` (EngineOptions) may be null. The
  // front and the clock must outlive it.
  EngineLoop(Front& front, int index, const SchedulerOptions& options, std::unique_ptr<Executor> executor,
             EngineObserver* observer, std::function<void(const absl::Status&, int, int)> on_device_failure,
             const Clock* clock);
  ~EngineLoop();

  struct Stats {
    SchedulerStats scheduler;
    absl::Time last_step = absl::InfinitePast();
    bool lost = false;
  };
  Stats stats() const;  // any thread may call it
  // What the executor counts; nothing while there is none.
  ExecutorStats executor_stats() const;  // any thread may call it

  // A loop that was lost while others serve gives up its executor once its requests have ended. Waits for that; false:
  // it is not lost, or the front was stopped. Any thread may call it, and the next.
  bool AwaitGone();
  // Goes on with another executor, as though it had never been lost. After AwaitGone.
  void Return(std::unique_ptr<Executor> executor);

 private:
  void Run();
  bool CanCompute() const { return executor_ != nullptr; }
  void Lose(const absl::Status& why);
  void GiveUp();
  void TakeOver();
  bool LaunchStep();  // false: there is nothing to compute
  StepResult WaitForStep();
  void TakeRequests();
  void Start(std::unique_ptr<ActiveRequest> request);
  void Cancel(RequestHandle request);
  // Takes the requests of the sequences that the step starts out of the queue.
  void Admit(const StepPlan& plan);
  void Deliver(const std::vector<SequenceEvent>& events);
  // Ends a request that waited at the front.
  void EndWaiting(ActiveRequest& request, FinishReason reason);
  void Close(ActiveRequest& request);
  void Observe(const StepResult& result);
  void Publish();

  Front& front_;
  const int index_;
  const SchedulerOptions options_;
  EngineObserver* const observer_;
  const std::function<void(const absl::Status&, int, int)> on_device_failure_;
  const Clock* const clock_;

  // Only the thread uses these; executor_ it writes with the lock held.
  std::unique_ptr<Executor> executor_;  // null: it is lost, and others serve
  std::unique_ptr<Scheduler> scheduler_;
  bool lost_ = false;     // a device has failed for good
  bool retired_ = false;  // and others serve
  absl::flat_hash_map<RequestHandle, std::unique_ptr<ActiveRequest>> requests_;
  absl::flat_hash_map<uint64_t, ActiveRequest*> sequences_;
  absl::Time last_step_ = absl::InfinitePast();

  mutable absl::Mutex mutex_;
  Stats stats_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Executor> returned_ ABSL_GUARDED_BY(mutex_);  // to take over
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last, since it uses the others
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_ENGINE_LOOP_H_
