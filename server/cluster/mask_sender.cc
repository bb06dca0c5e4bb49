#include "server/cluster/mask_sender.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace causeway {

MaskSender::MaskSender(Send send) : send_(std::move(send)) {
  for (int i = 0; i < kThreads; ++i) threads_.emplace_back([this] { Loop(); });
}

MaskSender::~MaskSender() {
  {
    absl::MutexLock lock(&mutex_);
    closed_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
}

void MaskSender::Start(int32_t slot, uint64_t sequence, std::shared_ptr<TokenConstraint> constraint) {
  absl::MutexLock lock(&mutex_);
  if (const auto before = in_slot_.find(slot); before != in_slot_.end()) {
    const uint64_t other = before->second;
    in_slot_.erase(before);
    entries_.at(other).has_slot = false;
    EraseIfOver(other);
  }
  if (constraint == nullptr) return;
  Entry& entry = entries_[sequence];
  if (entry.has_slot) in_slot_.erase(entry.slot);  // it was preempted there
  entry.slot = slot;
  entry.has_slot = true;
  entry.constraint = std::move(constraint);
  in_slot_[slot] = sequence;
}

void MaskSender::Sampling(uint64_t sequence, int64_t index) {
  absl::MutexLock lock(&mutex_);
  const auto found = entries_.find(sequence);
  if (found == entries_.end()) return;
  found->second.pending.push_back(index);
  Ask(sequence, found->second);
}

absl::Status MaskSender::Sampled(uint64_t sequence, int64_t index, int32_t token, bool chosen) {
  std::shared_ptr<TokenConstraint> constraint;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = entries_.find(sequence);
    if (found == entries_.end()) return absl::OkStatus();
    const Entry& entry = found->second;
    if (entry.pending.empty() || entry.pending.front() != index)
      return absl::InternalError(absl::StrCat("sequence ", sequence, ": token ", index, " was sampled, and ",
                                              entry.pending.empty() ? "none" : absl::StrCat(entry.pending.front()),
                                              " was to be the next"));
    if (chosen && entry.asked != index)
      return absl::InternalError(
          absl::StrCat("sequence ", sequence, ": token ", index, " was sampled before its mask was sent"));
    if (chosen) constraint = entry.constraint;
  }
  if (chosen) constraint->Chosen(index, token);
  absl::MutexLock lock(&mutex_);
  Entry& entry = entries_.at(sequence);  // it has a pending index, so that nobody has erased it
  entry.pending.pop_front();
  Ask(sequence, entry);
  EraseIfOver(sequence);
  return absl::OkStatus();
}

size_t MaskSender::sequences() const {
  absl::MutexLock lock(&mutex_);
  return entries_.size();
}

void MaskSender::Ask(uint64_t sequence, Entry& entry) {
  if (entry.busy || entry.pending.empty() || entry.pending.front() == entry.asked) return;
  entry.busy = true;
  queue_.push_back(sequence);
}

void MaskSender::EraseIfOver(uint64_t sequence) {
  const auto found = entries_.find(sequence);
  const Entry& entry = found->second;
  if (!entry.has_slot && !entry.busy && entry.pending.empty()) entries_.erase(found);
}

void MaskSender::Loop() {
  absl::MutexLock lock(&mutex_);
  const auto work = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return closed_ || !queue_.empty(); };
  while (true) {
    mutex_.Await(absl::Condition(&work));
    if (closed_) return;
    const uint64_t sequence = queue_.front();
    queue_.pop_front();
    Entry& entry = entries_.at(sequence);  // busy, so that nobody erases it
    if (!entry.pending.empty()) {
      const int64_t index = entry.pending.front();
      const std::shared_ptr<TokenConstraint> constraint = entry.constraint;
      mutex_.Unlock();
      const TokenMask mask = constraint->Await(index);
      mutex_.Lock();
      entry.asked = index;  // before it is sent, since its token may be there before Send returns
      mutex_.Unlock();
      send_(sequence, index, mask);
      mutex_.Lock();
    }
    entry.busy = false;
    Ask(sequence, entry);
    EraseIfOver(sequence);
  }
}

}  // namespace causeway
