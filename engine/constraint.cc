#include "engine/constraint.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"

namespace causeway {
namespace {

using Clock = std::chrono::steady_clock;

// Longer than a step's other rows should wait. A sequence with such a mask is planned only once its mask is there.
constexpr std::chrono::milliseconds kSlow{2};
constexpr size_t kJobsMax = 1 << 20;  // far above the number of running sequences, each of which has one at most

}  // namespace

GrammarConstraint::GrammarConstraint(std::unique_ptr<GrammarMatcher> matcher, int64_t vocab_size,
                                     std::vector<int32_t> ends, MaskWorkers& workers)
    : ends_(std::move(ends)), workers_(workers), matcher_(std::move(matcher)), words_((vocab_size + 31) / 32) {}

void GrammarConstraint::Begin() { workers_.Push(shared_from_this(), std::nullopt); }

bool GrammarConstraint::Soon(int64_t index) const {
  absl::MutexLock lock(&mutex_);
  return !slow_ || progress_ == Progress::kEnded || (progress_ == Progress::kReady && index_ == index);
}

TokenMask GrammarConstraint::Await(int64_t index) {
  absl::MutexLock lock(&mutex_);
  const auto settled = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return progress_ != Progress::kBusy; };
  mutex_.Await(absl::Condition(&settled));
  if (progress_ == Progress::kReady && index_ != index) {
    Settle(TokenMask::State::kFailed,
           absl::InternalError(absl::StrCat("grammar: the mask of token ", index, " was asked for and that of token ",
                                            index_, " is next")));
  }
  return {state_, words_, status_};
}

void GrammarConstraint::Chosen(int64_t index, int32_t token) {
  {
    absl::MutexLock lock(&mutex_);
    if (progress_ != Progress::kReady || index_ != index)
      return;  // it has ended, and the row was planned before that was known
    if (std::find(ends_here_.begin(), ends_here_.end(), token) != ends_here_.end()) {
      Settle(TokenMask::State::kComplete, absl::OkStatus());
      return;
    }
    progress_ = Progress::kBusy;
    ++index_;
  }
  workers_.Push(shared_from_this(), token);
}

bool GrammarConstraint::Complete() {
  absl::MutexLock lock(&mutex_);
  const auto settled = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return progress_ != Progress::kBusy; };
  mutex_.Await(absl::Condition(&settled));
  return state_ == TokenMask::State::kComplete;
}

void GrammarConstraint::Release() {
  absl::MutexLock lock(&mutex_);
  released_ = true;
  if (progress_ != Progress::kBusy) Settle(TokenMask::State::kComplete, absl::OkStatus());
}

void GrammarConstraint::Settle(TokenMask::State state, absl::Status status) {
  state_ = state;
  status_ = std::move(status);
  progress_ = state == TokenMask::State::kTokens ? Progress::kReady : Progress::kEnded;
  if (progress_ == Progress::kEnded) matcher_.reset();
}

void GrammarConstraint::Work(std::optional<int32_t> token) {
  const Clock::time_point start = Clock::now();
  TokenMask::State state = TokenMask::State::kTokens;
  ends_here_.clear();
  absl::Status status = token.has_value() ? matcher_->Accept(*token) : absl::OkStatus();
  if (status.ok()) {
    const absl::StatusOr<bool> may_end = matcher_->Mask(absl::MakeSpan(words_));
    status = may_end.status();
    if (may_end.value_or(false)) {
      const bool nothing_else = std::all_of(words_.begin(), words_.end(), [](uint32_t word) { return word == 0; });
      if (nothing_else) state = TokenMask::State::kComplete;
      for (const int32_t end : ends_) {
        const uint32_t bit = 1u << (end % 32);
        if (end / 32 >= static_cast<int32_t>(words_.size()) || (words_[end / 32] & bit) != 0) continue;
        words_[end / 32] |= bit;
        ends_here_.push_back(end);
      }
    }
  }
  if (!status.ok()) state = TokenMask::State::kFailed;
  const Clock::duration took = Clock::now() - start;
  ++workers_.masks_;
  workers_.nanoseconds_ += std::chrono::nanoseconds(took).count();
  bool waited_for;
  {
    absl::MutexLock lock(&mutex_);
    waited_for = slow_;
    slow_ = took > kSlow;
    if (released_) {
      Settle(TokenMask::State::kComplete, absl::OkStatus());
    } else {
      Settle(state, std::move(status));
    }
  }
  if (waited_for) workers_.slow_mask_();
}

MaskWorkers::MaskWorkers(int threads, std::function<void()> slow_mask)
    : threads_max_(threads), slow_mask_(std::move(slow_mask)), jobs_(kJobsMax) {}

MaskWorkers::~MaskWorkers() {
  jobs_.Close();
  absl::MutexLock lock(&mutex_);
  for (std::thread& thread : threads_) thread.join();
}

MaskWorkers::Stats MaskWorkers::stats() const { return {masks_, static_cast<double>(nanoseconds_) / 1e9}; }

void MaskWorkers::Push(std::shared_ptr<GrammarConstraint> constraint, std::optional<int32_t> token) {
  {
    absl::MutexLock lock(&mutex_);
    while (static_cast<int>(threads_.size()) < threads_max_) threads_.emplace_back([this] { Loop(); });
  }
  jobs_.Push({std::move(constraint), token});
}

void MaskWorkers::Loop() {
  while (std::optional<Job> job = jobs_.Pop()) job->constraint->Work(job->token);
}

}  // namespace causeway
