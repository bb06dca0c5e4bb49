#include "engine/front.h"

#include <algorithm>

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

std::unique_ptr<ActiveRequest> Front::TakeRequest(absl::FunctionRef<bool(const ActiveRequest&)> can_start) {
  absl::MutexLock lock(&mutex_);
  const ActiveRequest* first = queue_.first();
  return first != nullptr && can_start(*first) ? queue_.TakeFirst() : nullptr;
}

void Front::Admitted() {
  absl::MutexLock lock(&mutex_);
  --waiting_;
}

void Front::Ended(const ActiveRequest& request) {
  absl::MutexLock lock(&mutex_);
  if (!request.admitted()) --waiting_;
  ids_.erase(request.id());
}

}  // namespace causeway
