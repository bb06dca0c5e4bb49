// A process's way of a step: through the segments whose devices it drives, from and to those of other processes.
#ifndef CAUSEWAY_ENGINE_EXECUTION_STEP_ROUTER_H_
#define CAUSEWAY_ENGINE_EXECUTION_STEP_ROUTER_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "engine/architecture/spec.h"
#include "engine/base/bounded_queue.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/execution/candidate_counts.h"
#include "engine/execution/device_worker.h"
#include "engine/execution/executor.h"
#include "engine/execution/process_share.h"
#include "engine/execution/sampler_state.h"
#include "engine/execution/startup.h"
#include "engine/plan/plan.h"

namespace causeway {

// A step's segments queue at the workers of their devices, each of which works off its queue in order, so steps stay in
// order within every segment, and pass every border between processes in order.
class StepRouter {
 public:
  struct Events {
    // This process has nothing more to do for the step, whose result is complete where ends_here. On a worker's thread.
    std::function<void(std::shared_ptr<Step>)> done;
    // A connection to another process has failed; on a thread of its own. May be null where all devices are own.
    std::function<void(const absl::Status&)> lost;
  };
  StepRouter(const ModelSpec& spec, const Plan& plan, ProcessShare share, Events events);
  // Ends without the steps of other processes that have not come.
  ~StepRouter();

  // Makes the workers and loads what they hold; first of all calls. Errors are LoadModel's.
  absl::StatusOr<LoadedModel> Load(const Checkpoint& checkpoint, const ExecutorOptions& options,
                                   const StartupCallbacks& callbacks);

  // A step with its number, plan and, unless its status says why not, its batch; in the order of numbers. Returns at
  // once.
  void Launch(std::shared_ptr<Step> step);
  // Whether the result of steps comes about here: the last segment's first rank is own.
  bool ends_here() const { return share_.has(plan_.segments.back().device()); }

  // Around the warm-up steps, and after each of them.
  void BeginWarmUp();
  void ClearSampler() { sampler_.Clear(); }
  absl::Status EndWarmUp() { return CheckActivations(plan_, workers_); }

  // DeviceWorker::SamplesLater, of the only worker that may.
  bool samples_later() const { return !workers_.empty() && workers_.begin()->second->SamplesLater(); }
  bool owns(int device) const { return share_.has(device); }
  const BatchLimits& limits() const { return limits_; }
  // Of own devices. Others have nothing, and active_seconds is the caller's to know.
  ExecutorStats Stats() const;
  // Who waits for another process waits no more; its steps fail. Any thread.
  void Close();

 private:
  // Hidden states that come from another process, for one own rank of a segment.
  struct Incoming {
    Incoming(size_t of_segment, size_t of_rank) : segment(of_segment), rank(of_rank), expected(kExpectedMax) {}
    static constexpr size_t kExpectedMax = 1024;  // far above steps in flight
    const size_t segment, rank;
    BoundedQueue<std::shared_ptr<Step>> expected;
  };
  // A step that stands before a segment.
  struct Waiting {
    std::shared_ptr<Step> step;                             // null: it has not come so far
    std::map<size_t, std::pair<bool, at::Tensor>> arrived;  // by rank: whether it failed there, and its hidden states
  };
  using Place = std::pair<uint64_t, size_t>;  // a step's number, and a segment

  size_t OwnRanks(size_t segment) const;
  bool IsShared(size_t segment) const;  // a group in several processes has it, and others
  bool ComesFromOthers(size_t segment) const;
  size_t NextOwn(size_t segment) const;  // the next that has own devices; the number of segments: none

  void Reach(const std::shared_ptr<Step>& step) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TryEnter(Place place) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Enqueue(const std::shared_ptr<Step>& step) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EnqueueNow(const std::shared_ptr<Step>& step) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TellOrder(Place place) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RunInOrder() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReceiveOrder(int first, int own);
  void Lose(const absl::Status& why);
  void Advance(std::shared_ptr<Step> step);
  void SendOn(Step& step);
  void ReceiveAll(Incoming& incoming);

  const ModelSpec& spec_;
  const Plan& plan_;
  const ProcessShare share_;
  const Events events_;
  const BatchLimits limits_;
  SamplerState sampler_;
  CandidateCounts candidates_;  // Launch's alone

  mutable absl::Mutex mutex_;
  std::map<Place, Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
  // Of a group's segments that it has with other processes: in the order of its first rank, whose process tells it.
  std::map<Place, std::shared_ptr<Step>> ready_ ABSL_GUARDED_BY(mutex_);
  std::deque<Place> order_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::unique_ptr<Transfer>> told_ ABSL_GUARDED_BY(mutex_);
  std::map<std::pair<int, int>, int64_t> transfers_ ABSL_GUARDED_BY(mutex_);  // (from, to) -> bytes
  // To other processes, by segment: the messages of the last steps, which live until they have surely gone. Each deque
  // is its segment's workers', one at a time.
  std::vector<std::deque<std::unique_ptr<Transfer>>> outgoing_;

  std::vector<std::unique_ptr<Incoming>> incoming_;
  std::vector<std::thread> receivers_;
  std::atomic<bool> closing_ = false;
  DeviceWorkers workers_;  // last, so that their threads end before the rest goes
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_EXECUTION_STEP_ROUTER_H_
