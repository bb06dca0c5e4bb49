#include "engine/engine_loop.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/trace.h"

namespace causeway {

EngineLoop::EngineLoop(Front& front, int index, const SchedulerOptions& options, std::unique_ptr<Executor> executor,
                       EngineObserver* observer, std::function<void(const absl::Status&, int, int)> on_device_failure,
                       const Clock* clock)
    : front_(front),
      index_(index),
      options_(options),
      observer_(observer),
      on_device_failure_(std::move(on_device_failure)),
      clock_(clock),
      executor_(std::move(executor)),
      scheduler_(std::make_unique<Scheduler>(options, clock)),
      stats_{.scheduler = scheduler_->Stats()},
      thread_([this] { Run(); }) {}

EngineLoop::~EngineLoop() { thread_.join(); }

EngineLoop::Stats EngineLoop::stats() const {
  absl::MutexLock lock(&mutex_);
  return stats_;
}

ExecutorStats EngineLoop::executor_stats() const {
  absl::MutexLock lock(&mutex_);
  return executor_ == nullptr ? ExecutorStats() : executor_->Stats();
}

bool EngineLoop::AwaitGone() {
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(
      +[](EngineLoop* loop) ABSL_EXCLUSIVE_LOCKS_REQUIRED(loop->mutex_) {
        return loop->executor_ == nullptr || !loop->stats_.lost || loop->stopped_;
      },
      this));
  return executor_ == nullptr && !stopped_;
}

void EngineLoop::Return(std::unique_ptr<Executor> executor) {
  {
    absl::MutexLock lock(&mutex_);
    returned_ = std::move(executor);
  }
  front_.Wake();
}

void EngineLoop::GiveUp() {
  std::unique_ptr<Executor> gone;  // it takes a while to end
  absl::MutexLock lock(&mutex_);
  gone.swap(executor_);
}

void EngineLoop::TakeOver() {
  {
    absl::MutexLock lock(&mutex_);
    if (returned_ == nullptr) return;
    executor_ = std::move(returned_);
  }
  executor_->OnLost([this] { front_.Wake(); });
  scheduler_ = std::make_unique<Scheduler>(options_, clock_);
  lost_ = retired_ = false;
  Publish();
  front_.Return(index_);
}

void EngineLoop::Run() {
  executor_->OnLost([this] { front_.Wake(); });
  Trace::NameLane("scheduler");
  std::vector<SequenceEvent> events;
  int in_flight = 0;
  while (true) {
    Front::Commands commands = front_.TakeCommands(index_);
    for (auto& [request, reason] : commands.ended) EndWaiting(*request, reason);
    if (commands.stop) break;
    if (CanCompute() && !lost_) {
      if (const absl::Status why = executor_->Lost(); !why.ok()) Lose(why);
    }
    if (retired_ && CanCompute() && in_flight == 0 && requests_.empty()) GiveUp();
    if (!CanCompute()) TakeOver();
    for (SequenceEvent& event : scheduler_->Expire()) events.push_back(std::move(event));
    while (CanCompute() && in_flight < executor_->steps_in_flight() && LaunchStep()) ++in_flight;
    // The devices have work again; only now does the thread make and send the last step's text.
    Deliver(events);
    events.clear();
    // Cancellations come after that, so that a request which has just finished keeps its tokens and its reason.
    for (const RequestHandle request : commands.cancellations) Cancel(request);
    Publish();
    if (in_flight > 0) {
      const StepResult result = WaitForStep();
      --in_flight;
      TraceSpan span("apply");
      span.With("step", static_cast<int64_t>(result.step));
      events = scheduler_->Apply(result);
      Observe(result);
    } else {
      front_.AwaitCommands(index_, scheduler_->NextDeadline());
    }
  }
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
  }
  Deliver(events);
  for (; in_flight > 0; --in_flight) executor_->Wait();
  while (!requests_.empty()) Cancel(requests_.begin()->first);
}

bool EngineLoop::LaunchStep() {
  TraceSpan span("plan");
  TakeRequests();
  std::optional<StepPlan> plan = scheduler_->Next();
  if (!plan.has_value()) return false;
  span.With("step", static_cast<int64_t>(plan->step)).With("rows", plan->tokens);
  span.With("sequences", static_cast<int64_t>(plan->sequences.size()));
  Admit(*plan);
  executor_->Run(*std::move(plan));
  return true;
}

StepResult EngineLoop::WaitForStep() {
  const TraceSpan span("wait for a step");
  return executor_->Wait();
}

void EngineLoop::TakeRequests() {
  const auto can_start = [this](const ActiveRequest& request) { return scheduler_->CanStart(request.Candidate()); };
  while (std::unique_ptr<ActiveRequest> request = front_.TakeRequest(index_, can_start)) Start(std::move(request));
}

void EngineLoop::Start(std::unique_ptr<ActiveRequest> request) {
  ActiveRequest* active = request.get();
  const RequestHandle first = active->handle();
  requests_.emplace(first, std::move(request));
  for (int32_t i = 0; i < active->choices(); ++i) {
    const absl::Status added = scheduler_->Add(active->Sequence(i, options_.max_model_len));
    CAUSEWAY_CHECK(added.ok(), "the scheduler refused what Submit had checked: ", added.ToString());
    sequences_.emplace(first + i, active);
  }
}

void EngineLoop::Cancel(RequestHandle handle) {
  const auto found = requests_.find(handle);
  if (found == requests_.end()) return;  // it has ended meanwhile, or another loop has it
  for (const uint64_t sequence : found->second->Live()) {
    Deliver({*scheduler_->Finish(sequence, FinishReason::kCancelled)});
  }
}

void EngineLoop::Admit(const StepPlan& plan) {
  for (const StepSequence& sequence : plan.sequences) {
    if (sequence.start == nullptr) continue;
    ActiveRequest& request = *sequences_.at(sequence.sequence);
    if (request.admitted()) continue;  // another choice of it was admitted, or it was preempted since
    request.Admit(clock_->Now(), observer_);
    front_.Admitted();
  }
}

void EngineLoop::Deliver(const std::vector<SequenceEvent>& events) {
  if (events.empty()) return;
  TraceSpan span("deliver");
  span.With("sequences", static_cast<int64_t>(events.size()));
  const absl::Time now = clock_->Now();
  for (const SequenceEvent& event : events) {
    const auto found = sequences_.find(event.sequence);
    if (found == sequences_.end()) continue;  // a cancellation or a stop string has ended it meanwhile
    ActiveRequest& request = *found->second;
    const bool ended = request.Take(event, now, observer_);
    if (ended && !event.finished.has_value()) scheduler_->Finish(event.sequence, FinishReason::kStop);
    if (ended) sequences_.erase(event.sequence);
    if (!request.ended()) continue;
    Publish();  // whoever waits for the request's end finds its blocks free
    Close(request);
    requests_.erase(request.handle());
  }
}

void EngineLoop::EndWaiting(ActiveRequest& request, FinishReason reason) {
  const absl::Time now = clock_->Now();
  for (const uint64_t sequence : request.Live()) {
    SequenceEvent event;
    event.sequence = sequence;
    event.finished = reason;
    request.Take(event, now, observer_);
  }
  Close(request);
}

void EngineLoop::Close(ActiveRequest& request) {
  front_.Ended(request);
  request.Close(clock_->Now(), observer_);
}

void EngineLoop::Observe(const StepResult& result) {
  last_step_ = clock_->Now();
  if (!result.device_failure.ok()) Lose(result.device_failure);
  if (observer_ == nullptr) return;
  observer_->OnStep({.seconds = result.seconds,
                     .tokens = result.rows,
                     .prefill_tokens = result.prefill_rows,
                     .sequences = result.sequences});
}

void EngineLoop::Lose(const absl::Status& why) {
  if (std::exchange(lost_, true)) return;
  const int left = front_.Lose(index_);
  retired_ = left > 0;
  if (on_device_failure_ != nullptr) on_device_failure_(why, index_, left);
}

void EngineLoop::Publish() {
  const SchedulerStats scheduler = scheduler_->Stats();
  absl::MutexLock lock(&mutex_);
  stats_ = {.scheduler = scheduler, .last_step = last_step_, .lost = lost_};
}

}  // namespace causeway
