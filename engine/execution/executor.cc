#include "engine/execution/executor.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <map>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/architecture/shard.h"
#include "engine/base/bounded_queue.h"
#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "engine/execution/startup.h"
#include "engine/execution/warm_up.h"
#include "engine/plan/pipeline.h"
#include "engine/plan/ranks.h"

namespace causeway {
namespace {

constexpr size_t kResultsMax = 1024;  // far above steps in flight

// Routes steps through the segments. A step's segments queue at the workers of their devices, each of which works off
// its queue in order, so steps stay in order within every segment.
class PipelineExecutor final : public Executor {
 public:
  PipelineExecutor(ModelSpec spec, Plan plan)
      : spec_(std::move(spec)),
        plan_(std::move(plan)),
        limits_{spec_.vocab_size, plan_.options.max_num_seqs, plan_.kv_blocks, plan_.options.max_model_len},
        sampler_(plan_.options.max_num_seqs, spec_.vocab_size),
        sampled_in_(plan_.options.max_num_seqs, 0),
        results_(kResultsMax) {}

  ~PipelineExecutor() override {
    while (in_flight_ > 0) Wait();
  }

  absl::Status Start(const Checkpoint& checkpoint, const ExecutorOptions& options, const StartupCallbacks& callbacks) {
    CAUSEWAY_ASSIGN_OR_RETURN(workers_, MakeWorkers(spec_, plan_, options, sampler_,
                                                    [this](std::shared_ptr<Step> step) { Advance(std::move(step)); }));
    CAUSEWAY_ASSIGN_OR_RETURN(LoadedModel loaded_model,
                              LoadModel(spec_, plan_, checkpoint, options, callbacks, workers_));
    start_.memory = loaded_model.memory_seconds;
    not_finite_ = std::move(loaded_model.not_finite);
    const absl::Time loaded = Clock::Real()->Now();
    CAUSEWAY_RETURN_IF_ERROR(WarmUp());
    start_.warm_up = absl::ToDoubleSeconds(Clock::Real()->Now() - loaded);
    return absl::OkStatus();
  }

  void Run(StepPlan plan) override {
    auto step = std::make_shared<Step>();
    step->plan = std::move(plan);
    Launch(std::move(step));
  }

  StepResult Wait() override {
    --in_flight_;
    return *results_.Pop();
  }

  int steps_in_flight() const override { return StepsInFlight(groups()); }
  int micro_batches() const override { return MicroBatchesOf(static_cast<int>(plan_.segments.size()), groups()); }

  ExecutorStats Stats() const override {
    ExecutorStats stats;
    stats.start = start_;
    stats.not_finite = not_finite_;
    stats.devices.resize(plan_.devices.size());
    for (const auto& [device, worker] : workers_) {
      stats.devices[device] = worker->stats();
      stats.experts.merge(worker->ExpertLoads());
    }
    absl::MutexLock lock(&mutex_);
    const Step::Clock::duration under_way =
        finished_ < last_launched_ ? Step::Clock::now() - active_since_ : Step::Clock::duration::zero();
    const double active = std::chrono::duration<double>(active_ + under_way).count();
    for (const auto& [device, worker] : workers_) stats.devices[device].active_seconds = active;
    for (const auto& [route, bytes] : transfers_) {
      stats.transfers.push_back(
          {plan_.devices[route.first].device.name, plan_.devices[route.second].device.name, bytes});
    }
    return stats;
  }

 private:
  int groups() const { return static_cast<int>(workers_.size() / plan_.segments.front().devices.size()); }

  absl::Status WarmUp() {
    for (const auto& [device, worker] : workers_) worker->runtime().ResetActivationsPeak();
    auto step = std::make_shared<Step>();
    step->plan = WorstStep(spec_, plan_);
    step->warm_up = true;
    Launch(std::move(step));
    CAUSEWAY_RETURN_IF_ERROR(Wait().status);
    sampler_.Clear();
    std::fill(sampled_in_.begin(), sampled_in_.end(), 0);
    return CheckActivations(plan_, workers_);
  }

  void Launch(std::shared_ptr<Step> step) {
    ++in_flight_;
    step->ranks.resize(plan_.segments.front().devices.size());
    step->number = ++launched_;
    step->result.step = step->plan.step;
    step->result.rows = step->plan.tokens;
    step->result.prefill_rows = step->plan.prefill_tokens;
    step->result.sequences = static_cast<int64_t>(step->plan.sequences.size());
    absl::StatusOr<StepBatch> batch = MakeStepBatch(step->plan, limits_);
    if (batch.ok()) {
      step->batch = *std::move(batch);
    } else {
      step->result.status = std::move(batch).status();
    }
    // A placeholder waits until the step that samples it is done. With one segment the worker's queue sees to that.
    uint64_t needs = 0;
    for (const StepBatch::Placeholder& placeholder : step->batch.placeholders) {
      needs = std::max(needs, sampled_in_[placeholder.slot]);
      if (sampled_in_[placeholder.slot] == 0) {
        step->result.status = absl::InternalError(
            absl::StrCat("step plan: a placeholder in slot ", placeholder.slot, ", which no step samples for"));
      }
    }
    if (step->result.status.ok()) {
      for (const StepSequence& sequence : step->plan.sequences) {
        if (sequence.sample) sampled_in_[sequence.slot] = step->number;
      }
    }
    if (plan_.segments.size() == 1) needs = 0;
    {
      absl::MutexLock lock(&mutex_);
      if (finished_ == last_launched_) active_since_ = Step::Clock::now();
      last_launched_ = step->number;
      held_back_.push_back({needs, std::move(step)});
    }
    Release();
  }

  // Steps enter the first segment in order, each as soon as the tokens it reads are there.
  void Release() {
    absl::MutexLock lock(&mutex_);
    while (!held_back_.empty() && held_back_.front().needs <= finished_) {
      Enqueue(std::move(held_back_.front().step));
      held_back_.pop_front();
    }
  }

  // With the workers of the step's segment. The lock has all ranks get steps in one order.
  void Enqueue(const std::shared_ptr<Step>& step) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const std::vector<int>& devices = plan_.segments[step->segment].devices;
    step->ranks_left = static_cast<int>(devices.size());
    for (const int device : devices) workers_.at(device)->Enqueue(step);
  }

  // On the thread of a worker that ran the step's segment, the last of its ranks.
  void Advance(std::shared_ptr<Step> step) {
    const std::vector<int>& from = plan_.segments[step->segment].devices;
    if (++step->segment < plan_.segments.size()) {
      const std::vector<int>& to = plan_.segments[step->segment].devices;
      absl::MutexLock lock(&mutex_);
      for (size_t rank = 0; rank < from.size(); ++rank) {
        const at::Tensor& hidden = step->ranks[rank].hidden.tensor;
        if (hidden.defined() && !step->warm_up) transfers_[{from[rank], to[rank]}] += hidden.nbytes();
      }
      Enqueue(step);
      return;
    }
    {
      absl::MutexLock lock(&mutex_);
      finished_ = step->number;
      if (finished_ == last_launched_ && !step->warm_up) active_ += Step::Clock::now() - active_since_;
    }
    StepResult result = std::move(step->result);
    // Who learns of the result finds that the step holds nothing of its sequences any more.
    step->plan = {};
    step.reset();
    results_.Push(std::move(result));
    Release();
  }

  const ModelSpec spec_;
  const Plan plan_;
  const BatchLimits limits_;
  SamplerState sampler_;
  StartSeconds start_;  // not written any more once Start has returned, nor is the next
  NotFiniteWeights not_finite_;

  // Of the thread that calls Run and Wait.
  int in_flight_ = 0;
  uint64_t launched_ = 0;
  std::vector<uint64_t> sampled_in_;  // by slot: the last step launched that samples there

  struct HeldBack {
    uint64_t needs = 0;  // the step that must be finished first
    std::shared_ptr<Step> step;
  };
  mutable absl::Mutex mutex_;
  std::deque<HeldBack> held_back_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_launched_ ABSL_GUARDED_BY(mutex_) = 0, finished_ ABSL_GUARDED_BY(mutex_) = 0;
  Step::Clock::time_point active_since_ ABSL_GUARDED_BY(mutex_);                          // where the two differ
  Step::Clock::duration active_ ABSL_GUARDED_BY(mutex_) = Step::Clock::duration::zero();  // before
  std::map<std::pair<int, int>, int64_t> transfers_ ABSL_GUARDED_BY(mutex_);              // (from, to) -> bytes

  BoundedQueue<StepResult> results_;
  DeviceWorkers workers_;  // last, so that their threads end before the rest goes
};

absl::Status Check(const Plan& plan, const ModelSpec& spec) {
  const int units = UnitsOf(spec).count();
  int next = 0;
  for (const Segment& segment : plan.segments) {
    if (segment.units.first != next || segment.units.last < segment.units.first) {
      return absl::InternalError(absl::StrCat("plan: a segment of units ", segment.units.first, " to ",
                                              segment.units.last, " where unit ", next, " is next"));
    }
    const size_t ranks = plan.segments.front().devices.size();
    if (segment.devices.empty() || segment.devices.size() != ranks) {
      return absl::InternalError(absl::StrCat("plan: units ", segment.units.first, " to ", segment.units.last,
                                              " are on ", segment.devices.size(), " devices, others on ", ranks));
    }
    CAUSEWAY_RETURN_IF_ERROR(Shard(spec, {0, static_cast<int>(ranks)}).status());
    const std::string missing = MissingForGroups(plan.devices[segment.device()].device.kind, static_cast<int>(ranks));
    if (!missing.empty()) return absl::UnimplementedError(absl::StrCat("this version lacks ", missing));
    next = segment.units.last + 1;
  }
  if (next != units) return absl::InternalError(absl::StrCat("plan: segments end before unit ", next, " of ", units));
  if (plan.kv_blocks <= 0) {
    return absl::FailedPreconditionError(
        "the plan has no KV cache; it shows where weights go, but nothing can run on it");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Executor>> MakeExecutor(const ModelSpec& spec, const Checkpoint& checkpoint,
                                                       const Plan& plan, const ExecutorOptions& options,
                                                       const std::function<void(const LoadProgress&)>& progress,
                                                       const std::function<absl::Status()>& proceed) {
  CAUSEWAY_RETURN_IF_ERROR(Check(plan, spec));
  auto executor = std::make_unique<PipelineExecutor>(spec, plan);
  CAUSEWAY_RETURN_IF_ERROR(executor->Start(checkpoint, options, {progress, proceed}));
  return executor;
}

}  // namespace causeway
