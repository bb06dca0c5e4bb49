// A process's part of a replica whose steps another process launches.
#ifndef CAUSEWAY_ENGINE_EXECUTION_FOLLOWER_H_
#define CAUSEWAY_ENGINE_EXECUTION_FOLLOWER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "engine/architecture/spec.h"
#include "engine/batch/step.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/execution/executor.h"
#include "engine/execution/step_router.h"
#include "engine/plan/plan.h"

namespace causeway {

class Follower {
 public:
  // On threads of the follower's; they must not call it.
  struct Events {
    // This process has done its part of a step, which had this plan: what its LayerOutputs gather here is there. The
    // result is complete where `ends_here`; else only its statuses mean something. Steps come in order.
    std::function<void(uint64_t number, StepPlan plan, StepResult result, bool ends_here)> done;
    // A connection to another process has failed: no step can be computed any more.
    std::function<void(const absl::Status&)> lost;
  };
  // Loads the part of the plan that `share` says. `progress` and `proceed` as MakeExecutor's.
  static absl::StatusOr<std::unique_ptr<Follower>> Load(const ModelSpec& spec, const Checkpoint& checkpoint,
                                                        const Plan& plan, ProcessShare share,
                                                        const ExecutorOptions& options,
                                                        const std::function<void(const LoadProgress&)>& progress,
                                                        Events events);
  ~Follower();

  // The steps as the leader numbers them, in order. Returns at once.
  void Run(uint64_t number, bool warm_up, StepPlan plan);
  // Waits for the warm-up steps, the first, and says whether they took what the plan allows.
  absl::Status AwaitWarm();

  ExecutorStats Stats() const;  // of own devices; any thread
  void Close();                 // who waits for another process waits no more; any thread

 private:
  Follower(const ModelSpec& spec, const Plan& plan, ProcessShare share, Events events);
  void Done(std::shared_ptr<Step> step);

  const ModelSpec spec_;
  const Plan plan_;
  const Events events_;
  StartSeconds start_;
  NotFiniteWeights not_finite_;
  absl::Mutex mutex_;
  size_t warm_ups_left_ ABSL_GUARDED_BY(mutex_);
  absl::Status warm_up_ ABSL_GUARDED_BY(mutex_);  // the first error of those
  std::unique_ptr<StepRouter> router_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_EXECUTION_FOLLOWER_H_
