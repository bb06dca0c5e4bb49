#include "engine/execution/follower.h"

#include <utility>

#include "engine/base/status.h"
#include "engine/execution/startup.h"
#include "engine/execution/warm_up.h"

namespace causeway {

Follower::Follower(const ModelSpec& spec, const Plan& plan, ProcessShare share, Events events)
    : spec_(spec), plan_(plan), events_(std::move(events)), warm_ups_left_(WarmUpSteps(spec_, plan_).size()) {
  router_ = std::make_unique<StepRouter>(
      spec_, plan_, std::move(share),
      StepRouter::Events{.done = [this](std::shared_ptr<Step> step) { Done(std::move(step)); },
                         .lost = [this](const absl::Status& why) { events_.lost(why); }});
}

Follower::~Follower() = default;

absl::StatusOr<std::unique_ptr<Follower>> Follower::Load(const ModelSpec& spec, const Checkpoint& checkpoint,
                                                         const Plan& plan, ProcessShare share,
                                                         const ExecutorOptions& options,
                                                         const std::function<void(const LoadProgress&)>& progress,
                                                         Events events) {
  CAUSEWAY_RETURN_IF_ERROR(CheckServable(plan, spec));
  auto follower = std::unique_ptr<Follower>(new Follower(spec, plan, std::move(share), std::move(events)));
  CAUSEWAY_ASSIGN_OR_RETURN(LoadedModel loaded, follower->router_->Load(checkpoint, options, {progress, nullptr}));
  follower->start_.memory = loaded.memory_seconds;
  follower->not_finite_ = std::move(loaded.not_finite);
  follower->router_->BeginWarmUp();
  return follower;
}

void Follower::Run(uint64_t number, bool warm_up, StepPlan plan) {
  auto step = std::make_shared<Step>();
  step->plan = std::move(plan);
  step->number = number;
  step->warm_up = warm_up;
  step->result.step = step->plan.step;
  absl::StatusOr<StepBatch> batch = MakeStepBatch(step->plan, router_->limits());
  if (batch.ok()) {
    step->batch = *std::move(batch);
  } else {
    step->result.status = std::move(batch).status();
  }
  router_->Launch(std::move(step));
}

void Follower::Done(std::shared_ptr<Step> step) {
  if (step->warm_up) {
    router_->ClearSampler();
    absl::MutexLock lock(&mutex_);
    warm_up_.Update(step->result.status);
    if (warm_ups_left_ > 0) --warm_ups_left_;
  }
  events_.done(step->number, std::move(step->plan), std::move(step->result), router_->ends_here());
}

absl::Status Follower::AwaitWarm() {
  {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(+[](size_t* left) { return *left == 0; }, &warm_ups_left_));
    CAUSEWAY_RETURN_IF_ERROR(warm_up_);
  }
  return router_->EndWarmUp();
}

ExecutorStats Follower::Stats() const {
  ExecutorStats stats = router_->Stats();
  stats.start = start_;
  stats.not_finite = not_finite_;
  return stats;
}

void Follower::Close() {
  router_->Close();
  absl::MutexLock lock(&mutex_);
  if (warm_ups_left_ > 0) warm_up_.Update(absl::CancelledError("ended before the warm-up"));
  warm_ups_left_ = 0;
}

}  // namespace causeway
