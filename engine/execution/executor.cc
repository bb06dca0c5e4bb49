#include "engine/execution/executor.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <iterator>
#include <map>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/base/bounded_queue.h"
#include "engine/base/clock.h"
#include "engine/base/pipeline.h"
#include "engine/base/status.h"
#include "engine/execution/followers.h"
#include "engine/execution/layer_capture.h"
#include "engine/execution/startup.h"
#include "engine/execution/step_router.h"
#include "engine/execution/warm_up.h"

namespace causeway {
namespace {

constexpr size_t kResultsMax = 1024;  // far above steps in flight

// Launches steps as soon as the tokens that they read are there, and hands out their results in order, whichever
// processes compute them.
class PipelineExecutor final : public Executor {
 public:
  PipelineExecutor(ModelSpec spec, Plan plan, std::unique_ptr<Followers> followers)
      : spec_(std::move(spec)),
        plan_(std::move(plan)),
        sampled_in_(plan_.options.max_num_seqs, 0),
        last_tokens_(plan_.options.max_num_seqs, 0),
        results_(kResultsMax),
        followers_(std::move(followers)) {}

  ~PipelineExecutor() override {
    while (in_flight_ > 0) Wait();
    followers_.reset();  // no event of theirs comes any more
  }

  absl::Status Start(const Checkpoint& checkpoint, ProcessShare share, const ExecutorOptions& options,
                     const StartupCallbacks& callbacks) {
    router_ = std::make_unique<StepRouter>(
        spec_, plan_, std::move(share),
        StepRouter::Events{.done = [this](std::shared_ptr<Step> step) { OwnPartDone(std::move(step)); },
                           .lost = [this](const absl::Status& why) { Lose(why); }});
    CAUSEWAY_ASSIGN_OR_RETURN(LoadedModel loaded_model, router_->Load(checkpoint, options, callbacks));
    start_.memory = loaded_model.memory_seconds;
    not_finite_ = std::move(loaded_model.not_finite);
    if (followers_ != nullptr) CAUSEWAY_RETURN_IF_ERROR(followers_->AwaitLoaded(EventsOfFollowers()));
    const absl::Time loaded = Clock::Real()->Now();
    CAUSEWAY_RETURN_IF_ERROR(WarmUp());
    start_.warm_up = absl::ToDoubleSeconds(Clock::Real()->Now() - loaded);
    return absl::OkStatus();
  }

  void Run(StepPlan plan) override { Launch(std::move(plan), /*warm_up=*/false); }

  StepResult Wait() override {
    --in_flight_;
    return *results_.Pop();
  }

  int steps_in_flight() const override { return StepsInFlight(groups(), router_->samples_later()); }
  int micro_batches() const override { return MicroBatchesOf(static_cast<int>(plan_.segments.size()), groups()); }

  absl::Status Lost() const override {
    absl::MutexLock lock(&mutex_);
    return lost_;
  }
  void OnLost(std::function<void()> told) override {
    absl::MutexLock lock(&mutex_);
    on_lost_ = std::move(told);
  }

  ExecutorStats Stats() const override {
    ExecutorStats stats = router_->Stats();
    stats.start = start_;
    stats.not_finite = not_finite_;
    if (followers_ != nullptr) AddFollowers(followers_->Stats(), stats);
    absl::MutexLock lock(&mutex_);
    const Step::Clock::duration under_way =
        finished_ < last_launched_ ? Step::Clock::now() - active_since_ : Step::Clock::duration::zero();
    const double active = std::chrono::duration<double>(active_ + under_way).count();
    for (const int device : DevicesInUse(plan_)) stats.devices[device].active_seconds = active;
    return stats;
  }

 private:
  // A step from its launch until its result is handed out.
  struct UnderWay {
    uint64_t needs = 0;          // the step that must be finished first
    std::shared_ptr<Step> step;  // until it is launched
    std::vector<int32_t> slots;  // of the sequences that sample, in the plan's order
    bool warm_up = false;
    bool captured = true;  // all LayerOutputs are there, or none are wanted
    StepResult so_far;     // what the step's result says in any case
    std::optional<StepResult> result;
  };

  int groups() const { return static_cast<int>(DevicesInUse(plan_).size() / plan_.segments.front().devices.size()); }

  absl::Status WarmUp() {
    router_->BeginWarmUp();
    for (StepPlan& plan : WarmUpSteps(spec_, plan_)) {
      Launch(std::move(plan), /*warm_up=*/true);
      CAUSEWAY_RETURN_IF_ERROR(Wait().status);
      router_->ClearSampler();
      std::fill(sampled_in_.begin(), sampled_in_.end(), 0);
    }
    CAUSEWAY_RETURN_IF_ERROR(router_->EndWarmUp());
    return followers_ == nullptr ? absl::OkStatus() : followers_->AwaitWarm();
  }

  void Launch(StepPlan plan, bool warm_up) {
    ++in_flight_;
    auto step = std::make_shared<Step>();
    step->plan = std::move(plan);
    step->warm_up = warm_up;
    step->number = ++launched_;
    step->result.step = step->plan.step;
    step->result.rows = step->plan.tokens;
    step->result.prefill_rows = step->plan.prefill_tokens;
    step->result.sequences = static_cast<int64_t>(step->plan.sequences.size());
    absl::StatusOr<StepBatch> batch = MakeStepBatch(step->plan, router_->limits());
    if (batch.ok()) {
      step->batch = *std::move(batch);
    } else {
      step->result.status = std::move(batch).status();
    }
    // A placeholder waits until the step that samples it is done. With one segment the worker's queue sees to that.
    UnderWay under_way;
    under_way.warm_up = warm_up;
    for (const StepBatch::Placeholder& placeholder : step->batch.placeholders) {
      under_way.needs = std::max(under_way.needs, sampled_in_[placeholder.slot]);
      if (sampled_in_[placeholder.slot] == 0) {
        step->result.status = absl::InternalError(
            absl::StrCat("step plan: a placeholder in slot ", placeholder.slot, ", which no step samples for"));
      }
    }
    if (step->result.status.ok()) {
      for (const StepSequence& sequence : step->plan.sequences) {
        if (!sequence.sample) continue;
        sampled_in_[sequence.slot] = step->number;
        under_way.slots.push_back(sequence.slot);
      }
    }
    if (plan_.segments.size() == 1) under_way.needs = 0;
    under_way.captured = followers_ == nullptr || !step->result.status.ok() || !WantsLayerOutputs(step->plan);
    under_way.so_far = step->result;
    const uint64_t number = step->number;
    under_way.step = std::move(step);
    absl::MutexLock lock(&mutex_);
    if (finished_ == last_launched_) active_since_ = Step::Clock::now();
    last_launched_ = number;
    held_back_.push_back(number);
    under_way_.emplace(number, std::move(under_way));
    Release();
  }

  // Steps enter the first segment in order, each as soon as the tokens it reads are there.
  void Release() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    while (!held_back_.empty()) {
      const uint64_t number = held_back_.front();
      UnderWay& under_way = under_way_.at(number);
      if (under_way.needs > finished_) break;
      held_back_.pop_front();
      std::shared_ptr<Step> step = std::move(under_way.step);
      if (!lost_.ok()) {
        under_way.result = LostResult(under_way);
        continue;
      }
      if (followers_ != nullptr && step->result.status.ok()) {
        if (plan_.segments.size() > 1) FillPlaceholders(*step);
        followers_->Run(number, step->warm_up, step->plan);
      }
      if (followers_ != nullptr && !step->result.status.ok()) {
        under_way.result = std::move(step->result);  // no process hears of it
      } else {
        router_->Launch(std::move(step));
      }
    }
    Finish();
  }

  // By the tokens that were sampled, which followers have not all seen.
  void FillPlaceholders(Step& step) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (const StepBatch::Placeholder& placeholder : step.batch.placeholders) {
      step.batch.ids.mutable_data_ptr<int64_t>()[placeholder.row] = last_tokens_[placeholder.slot];
    }
    step.batch.placeholders.clear();
    for (StepSequence& sequence : step.plan.sequences) {
      if (!sequence.tokens.empty() && sequence.tokens.back() == kPlaceholderToken)
        sequence.tokens.back() = last_tokens_[sequence.slot];
    }
  }

  // This process has done its part of the step, on the thread of a worker.
  void OwnPartDone(std::shared_ptr<Step> step) {
    const uint64_t number = step->number;
    StepResult result = std::move(step->result);
    if (router_->ends_here() && followers_ != nullptr && absl::IsUnavailable(result.status)) Lose(result.status);
    // Who learns of the result finds that the step holds nothing of its sequences any more.
    step->plan = {};
    step.reset();
    if (router_->ends_here()) return Complete(number, std::move(result));
    if (!result.status.ok()) Fail(number, std::move(result.status), std::move(result.device_failure));
  }

  Followers::Events EventsOfFollowers() {
    return {.result = [this](uint64_t number, StepResult result) { Complete(number, std::move(result)); },
            .failed = [this](uint64_t number, absl::Status status,
                             absl::Status device) { Fail(number, std::move(status), std::move(device)); },
            .captured =
                [this](uint64_t number) {
                  absl::MutexLock lock(&mutex_);
                  if (const auto found = under_way_.find(number); found != under_way_.end())
                    found->second.captured = true;
                  Release();
                },
            .lost = [this](absl::Status why) { Lose(why); }};
  }

  void Complete(uint64_t number, StepResult result) {
    absl::MutexLock lock(&mutex_);
    const auto found = under_way_.find(number);
    if (found == under_way_.end()) return;  // a lost process's
    UnderWay& under_way = found->second;
    if (!lost_.ok()) {
      under_way.result = LostResult(under_way);
      return Release();
    }
    result.step = under_way.so_far.step;
    result.rows = under_way.so_far.rows;
    result.prefill_rows = under_way.so_far.prefill_rows;
    result.sequences = under_way.so_far.sequences;
    result.device_failure.Update(under_way.so_far.device_failure);
    under_way.result = std::move(result);
    Release();
  }

  // A part of the step failed, in whatever process; its result is still to come.
  void Fail(uint64_t number, absl::Status status, absl::Status device_failure) {
    if (followers_ != nullptr && absl::IsUnavailable(status)) Lose(status);
    absl::MutexLock lock(&mutex_);
    const auto found = under_way_.find(number);
    if (found == under_way_.end()) return;
    StepResult& so_far = found->second.so_far;
    if (so_far.status.ok() || absl::IsAborted(so_far.status)) so_far.status = std::move(status);
    so_far.device_failure.Update(device_failure);
    Release();
  }

  // A process is gone: no step can be computed any more.
  void Lose(const absl::Status& why) {
    {
      absl::MutexLock lock(&mutex_);
      lost_.Update(why);  // the first to say so, before steps fail because of it
    }
    router_->Close();
    absl::MutexLock lock(&mutex_);
    for (auto& [number, under_way] : under_way_) {
      if (under_way.step != nullptr) continue;  // still held back
      under_way.captured = true;
      if (!under_way.result.has_value() || absl::IsAborted(under_way.result->status))
        under_way.result = LostResult(under_way);
    }
    Release();
    if (on_lost_) on_lost_();
  }
  StepResult LostResult(const UnderWay& under_way) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    StepResult result = under_way.so_far;
    result.status = lost_;
    result.device_failure = lost_;
    return result;
  }

  // Hands out the results that are complete, up to the first that is not.
  void Finish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    bool more = false;
    while (!under_way_.empty()) {
      const auto first = under_way_.begin();
      UnderWay& under_way = first->second;
      if (!under_way.result.has_value() || !under_way.captured) break;
      if (followers_ != nullptr && absl::IsAborted(under_way.result->status)) {
        // Whoever failed first tells why, or is lost.
        const absl::Status& why = under_way.so_far.status;
        if (why.ok() || absl::IsAborted(why)) break;
        under_way.result->status = why;
        under_way.result->device_failure.Update(under_way.so_far.device_failure);
      }
      finished_ = first->first;
      if (finished_ == last_launched_ && !under_way.warm_up) active_ += Step::Clock::now() - active_since_;
      StepResult result = *std::move(under_way.result);
      if (result.status.ok()) {
        for (size_t i = 0; i < std::min(under_way.slots.size(), result.tokens.size()); ++i)
          last_tokens_[under_way.slots[i]] = result.tokens[i].token;
      }
      under_way_.erase(first);
      results_.Push(std::move(result));
      more = true;
    }
    if (more) Release();
  }

  // What the devices of other processes have told.
  void AddFollowers(ExecutorStats theirs, ExecutorStats& stats) const {
    for (size_t device = 0; device < stats.devices.size() && device < theirs.devices.size(); ++device)
      if (!router_->owns(static_cast<int>(device))) stats.devices[device] = std::move(theirs.devices[device]);
    std::move(theirs.transfers.begin(), theirs.transfers.end(), std::back_inserter(stats.transfers));
    stats.experts.merge(theirs.experts);
    stats.not_finite.merge(theirs.not_finite);
  }

  const ModelSpec spec_;
  const Plan plan_;
  StartSeconds start_;  // not written any more once Start has returned, nor is the next
  NotFiniteWeights not_finite_;

  // Of the thread that calls Run and Wait.
  int in_flight_ = 0;
  uint64_t launched_ = 0;
  std::vector<uint64_t> sampled_in_;  // by slot: the last step launched that samples there

  mutable absl::Mutex mutex_;
  std::deque<uint64_t> held_back_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, UnderWay> under_way_ ABSL_GUARDED_BY(mutex_);  // by number
  std::vector<int32_t> last_tokens_ ABSL_GUARDED_BY(mutex_);        // by slot: what the last finished step sampled
  absl::Status lost_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> on_lost_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_launched_ ABSL_GUARDED_BY(mutex_) = 0, finished_ ABSL_GUARDED_BY(mutex_) = 0;
  Step::Clock::time_point active_since_ ABSL_GUARDED_BY(mutex_);                          // where the two differ
  Step::Clock::duration active_ ABSL_GUARDED_BY(mutex_) = Step::Clock::duration::zero();  // before

  BoundedQueue<StepResult> results_;
  std::unique_ptr<Followers> followers_;  // null: no other process has devices
  std::unique_ptr<StepRouter> router_;    // last, so that its threads end before the rest goes
};

}  // namespace

absl::StatusOr<std::unique_ptr<Executor>> MakeExecutor(const ModelSpec& spec, const Checkpoint& checkpoint,
                                                       const Plan& plan, const ExecutorOptions& options,
                                                       const std::function<void(const LoadProgress&)>& progress,
                                                       const std::function<absl::Status()>& proceed) {
  return MakeLeadingExecutor(spec, checkpoint, plan, {}, nullptr, options, progress, proceed);
}

absl::StatusOr<std::unique_ptr<Executor>> MakeLeadingExecutor(const ModelSpec& spec, const Checkpoint& checkpoint,
                                                              const Plan& plan, ProcessShare share,
                                                              std::unique_ptr<Followers> followers,
                                                              const ExecutorOptions& options,
                                                              const std::function<void(const LoadProgress&)>& progress,
                                                              const std::function<absl::Status()>& proceed) {
  CAUSEWAY_RETURN_IF_ERROR(CheckServable(plan, spec));
  auto executor = std::make_unique<PipelineExecutor>(spec, plan, std::move(followers));
  CAUSEWAY_RETURN_IF_ERROR(executor->Start(checkpoint, std::move(share), options, {progress, proceed}));
  return executor;
}

}  // namespace causeway
