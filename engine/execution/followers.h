// The other processes that drive devices of a replica, as its executor in the leading process sees them. The server
// implements it.
#ifndef CAUSEWAY_ENGINE_EXECUTION_FOLLOWERS_H_
#define CAUSEWAY_ENGINE_EXECUTION_FOLLOWERS_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/architecture/spec.h"
#include "engine/batch/step.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/execution/executor.h"
#include "engine/execution/process_share.h"
#include "engine/plan/plan.h"

namespace causeway {

// All calls are the executor's, from any of its threads, one at a time. What fails later comes as an event.
class Followers {
 public:
  // Called on threads of the followers', one at a time.
  struct Events {
    // A step's result, where the last segment's first rank is a follower's. A status of Aborted says no more than that
    // the step failed in another process.
    std::function<void(uint64_t number, StepResult result)> result;
    // A follower failed in its part of a step; `device_failure` as in StepResult.
    std::function<void(uint64_t number, absl::Status status, absl::Status device_failure)> failed;
    // All that followers compute of the step's LayerOutputs has been written to them. Comes for every step that wants
    // some, failed or not.
    std::function<void(uint64_t number)> captured;
    // A follower is gone or hangs; nothing comes any more.
    std::function<void(absl::Status why)> lost;
  };

  virtual ~Followers() = default;  // no event comes any more

  // First. Waits until all have loaded their part, or one could not.
  virtual absl::Status AwaitLoaded(Events events) = 0;
  // After the warm-up step has come back: whether it took what the plan allows everywhere.
  virtual absl::Status AwaitWarm() = 0;

  // Starts a step, in the order of calls, and returns at once. `number` is the executor's own, ascending. Placeholders
  // are only in plans of one segment.
  virtual void Run(uint64_t number, bool warm_up, const StepPlan& plan) = 0;

  // As the followers last told, within a second or two: what of it is theirs. Any thread.
  virtual ExecutorStats Stats() const = 0;
};

// As MakeExecutor, where other processes drive some or all devices of the plan, which CheckProcesses allows. `share`
// and `followers` are default where none do.
absl::StatusOr<std::unique_ptr<Executor>> MakeLeadingExecutor(const ModelSpec& spec, const Checkpoint& checkpoint,
                                                              const Plan& plan, ProcessShare share,
                                                              std::unique_ptr<Followers> followers,
                                                              const ExecutorOptions& options,
                                                              const std::function<void(const LoadProgress&)>& progress,
                                                              const std::function<absl::Status()>& proceed = nullptr);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_EXECUTION_FOLLOWERS_H_
