#include "engine/front.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace causeway {

absl::StatusOr<RequestHandle> Front::Submit(const std::string& id, int32_t choices, MakeRequest make) {
  absl::MutexLock lock(&mutex_);
  if (draining_) return absl::UnavailableError("the daemon is draining and takes no new requests");
  if (waiting_ >= queue_max_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the queue is full: ", waiting_, " requests are waiting and the limit is ", queue_max_));
  }
  const RequestHandle handle = next_handle_;
  if (!ids_.emplace(id, handle).second) {
    return absl::AlreadyExistsError(absl::StrCat("request_id \"", id, "\" is already running"));
  }
  next_handle_ += choices;
  ++waiting_;
  queue_.Add(make(handle));
  WakeLocked();
  return handle;
}

void Front::Cancel(RequestHandle request) {
  absl::MutexLock lock(&mutex_);
  CancelLocked(request);
}

absl::Status Front::Cancel(const std::string& id) {
  absl::MutexLock lock(&mutex_);
  const auto found = ids_.find(id);
  if (found == ids_.end()) {
    return absl::NotFoundError(absl::StrCat("no request with request_id \"", id, "\" is running or waiting"));
  }
  CancelLocked(found->second);
  return absl::OkStatus();
}

void Front::CancelLocked(RequestHandle request) {
  if (std::unique_ptr<ActiveRequest> waiting = queue_.Take(request); waiting != nullptr) {
    ended_.emplace_back(std::move(waiting), FinishReason::kCancelled);
  } else {
    for (Loop& loop : loops_) loop.cancellations.push_back(request);
  }
  WakeLocked();
}

void Front::SetQueueMax(int64_t queue_max) {
  absl::MutexLock lock(&mutex_);
  queue_max_ = queue_max;
}

bool Front::Drain(absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  draining_ = true;
  const auto empty = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return ids_.empty(); };
  const bool ended = mutex_.AwaitWithDeadline(absl::Condition(&empty), deadline);
  if (!ended) {
    for (const auto& [id, handle] : ids_) CancelLocked(handle);
    mutex_.Await(absl::Condition(&empty));
  }
  return ended;
}

void Front::Stop() {
  absl::MutexLock lock(&mutex_);
  draining_ = stopping_ = true;
  while (queue_.first() != nullptr) ended_.emplace_back(queue_.TakeFirst(), FinishReason::kCancelled);
  WakeLocked();
}

void Front::Wake() {
  absl::MutexLock lock(&mutex_);
  WakeLocked();
}

void Front::WakeLocked() {
  for (Loop& loop : loops_) loop.wake = true;
}

Front::Counts Front::counts() const {
  absl::MutexLock lock(&mutex_);
  return {.waiting = waiting_, .running = static_cast<int64_t>(ids_.size()) - waiting_};
}

Front::Commands Front::TakeCommands(int loop) {
  absl::MutexLock lock(&mutex_);
  const absl::Time now = clock_->Now();
  while (std::unique_ptr<ActiveRequest> expired = queue_.TakeExpired(now)) {
    ended_.emplace_back(std::move(expired), FinishReason::kDeadline);
  }
  Commands commands;
  commands.cancellations.swap(loops_[loop].cancellations);
  commands.ended.swap(ended_);
  commands.stop = stopping_;
  loops_[loop].wake = false;
  return commands;
}

void Front::AwaitCommands(int loop, absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  deadline = std::min(deadline, queue_.NextDeadline());
  const auto awake = [this, loop]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return loops_[loop].wake; };
  mutex_.AwaitWithTimeout(absl::Condition(&awake), deadline - clock_->Now());
}

std::unique_ptr<ActiveRequest> Front::TakeRequest(int index, absl::FunctionRef<bool(const ActiveRequest&)> can_start) {
  absl::MutexLock lock(&mutex_);
  Loop& loop = loops_[index];
  const ActiveRequest* first = queue_.first();
  if (first == nullptr || loop.lost) return nullptr;
  if (std::exchange(first_, first->handle()) != first->handle()) {
    for (Loop& each : loops_) each.refused = false;
  }
  const bool refuses = !can_start(*first), refused_before = std::exchange(loop.refused, refuses);
  if (refuses) {
    // Another may be the one now. They are told once: loops that wait would otherwise wake each other for ever.
    if (!refused_before) WakeOthers(index);
    return nullptr;
  }
  std::vector<bool> open;
  for (const Loop& each : loops_) open.push_back(!each.lost && !each.refused);
  const Router::Request request = RouteOf(*first);
  const int chosen = loops_.size() == 1 ? 0 : router_.Choose(request, open);
  if (chosen != index) {
    loops_[chosen].wake = true;
    return nullptr;
  }
  if (loops_.size() > 1) router_.Started(request, index);
  return queue_.TakeFirst();
}

Router::Request Front::RouteOf(const ActiveRequest& request) const {
  const SequenceCandidate candidate = request.Candidate();
  return {.handle = request.handle(),
          .prompt = candidate.prompt,
          .salt = candidate.cache_salt,
          .tokens = request.TokensMax(context_max_)};
}

void Front::WakeOthers(int index) {
  for (size_t i = 0; i < loops_.size(); ++i) loops_[i].wake |= static_cast<int>(i) != index;
}

int Front::Lose(int index) {
  absl::MutexLock lock(&mutex_);
  Loop& loop = loops_[index];
  const auto serving = std::count_if(loops_.begin(), loops_.end(), [](const Loop& each) { return !each.lost; });
  const int left = static_cast<int>(serving) - !loop.lost;
  loop.lost = left > 0;
  WakeOthers(index);
  return left;
}

void Front::Return(int index) {
  absl::MutexLock lock(&mutex_);
  loops_[index].lost = loops_[index].refused = false;
  loops_[index].wake = true;
}

void Front::Admitted() {
  absl::MutexLock lock(&mutex_);
  --waiting_;
}

void Front::Ended(const ActiveRequest& request) {
  absl::MutexLock lock(&mutex_);
  if (!request.admitted()) --waiting_;
  ids_.erase(request.id());
  router_.Ended(request.handle());
}

}  // namespace causeway
