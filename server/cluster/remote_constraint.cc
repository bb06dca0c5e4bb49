#include "server/cluster/remote_constraint.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace causeway {

void RemoteConstraint::Deliver(int64_t index, TokenMask::State state, std::vector<uint32_t> allowed,
                               absl::Status status) {
  absl::MutexLock lock(&mutex_);
  come_.push_back({index, state, std::move(allowed), std::move(status)});
}

void RemoteConstraint::Fail(absl::Status status) {
  absl::MutexLock lock(&mutex_);
  failed_ = std::move(status);
}

TokenMask RemoteConstraint::Await(int64_t index) {
  absl::MutexLock lock(&mutex_);
  const bool ended = current_.index >= 0 && current_.state != TokenMask::State::kTokens;
  if (ended || current_.index == index) return Current();
  const auto there = [this, index]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !failed_.ok() || (!come_.empty() && come_.back().index >= index);
  };
  mutex_.Await(absl::Condition(&there));
  DropBelow(index);
  if (!failed_.ok()) {
    current_ = {index, TokenMask::State::kFailed, {}, failed_};
  } else if (come_.front().index != index) {
    current_ = {index,
                TokenMask::State::kFailed,
                {},
                absl::InternalError(absl::StrCat("grammar: the mask of token ", index, " was waited for and that of ",
                                                 "token ", come_.front().index, " came"))};
  } else {
    current_ = std::move(come_.front());
    come_.pop_front();
  }
  return Current();
}

void RemoteConstraint::Chosen(int64_t index, int32_t token) {
  absl::MutexLock lock(&mutex_);
  DropBelow(index + 1);
}

void RemoteConstraint::DropBelow(int64_t index) {
  while (!come_.empty() && come_.front().index < index) come_.pop_front();
}

TokenMask RemoteConstraint::Current() const { return {current_.state, current_.allowed, current_.status}; }

}  // namespace causeway
