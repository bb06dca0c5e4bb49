#include "engine/staging/staging_ring.h"

#include <utility>

#include "engine/base/check.h"

namespace causeway {

int StagingRing::AddInOrder(int64_t bytes, bool in_cpu_memory) {
  order_.push_back(static_cast<int>(weights_.size()));
  return Add({.bytes = bytes, .in_cpu_memory = in_cpu_memory, .in_order = true});
}

int StagingRing::AddExpert(int layer, int64_t bytes, bool in_cpu_memory) {
  // Each layer with experts has one barrier.
  const bool same_barrier = !order_.empty() && order_.back() == kBarrier && layer == layer_of_last_barrier_;
  if (!same_barrier) order_.push_back(kBarrier);
  layer_of_last_barrier_ = layer;
  return Add({.bytes = bytes, .in_cpu_memory = in_cpu_memory, .in_order = false});
}

int StagingRing::Add(const Weight& weight) {
  weights_.push_back(weight);
  weights_.back().position = order_.size() - 1;
  return static_cast<int>(weights_.size()) - 1;
}

void StagingRing::SetCpuRows(CpuRows rows) {
  cpu_rows_ = rows;
  SkipOnCpu();
}

bool StagingRing::OnCpu(const Weight& weight) const {
  if (!weight.in_cpu_memory) return false;
  return weight.in_order ? step_rows_ <= cpu_rows_.in_order : weight.rows <= cpu_rows_.experts;
}

int StagingRing::NextId() const {
  if (!expected_.empty()) return expected_.front();
  if (order_.empty()) return kNothing;
  const int id = order_[cursor_];
  return id == kBarrier || OnCpu(weights_[id]) ? kNothing : id;
}

void StagingRing::SkipOnCpu() {
  for (size_t n = 0; n < order_.size() && order_[cursor_] != kBarrier && OnCpu(weights_[order_[cursor_]]); ++n) {
    cursor_ = (cursor_ + 1) % order_.size();
  }
}

void StagingRing::GoTo(size_t position) {
  cursor_ = position % order_.size();
  SkipOnCpu();
}

// Where this many bytes fit beside what is still needed.
std::optional<int64_t> StagingRing::Room(int64_t bytes) const {
  CAUSEWAY_CHECK(bytes <= bytes_, "a weight of ", bytes, " bytes in a staging buffer of ", bytes_);
  if (slots_.empty()) return 0;
  const int64_t first = slots_.front().offset, end = slots_.back().offset + slots_.back().bytes;
  const bool wrapped = slots_.back().offset < first;
  if (wrapped) return end + bytes <= first ? std::optional(end) : std::nullopt;
  if (end + bytes <= bytes_) return end;
  return bytes <= first ? std::optional<int64_t>(0) : std::nullopt;
}

std::optional<StagingRing::Read> StagingRing::Next() const {
  const bool reading = !slots_.empty() && !slots_.back().read;
  const int id = NextId();
  if (reading || id == kNothing) return std::nullopt;
  const std::optional<int64_t> offset = Room(weights_[id].bytes);
  return offset.has_value() ? std::optional<Read>({.id = id, .offset = *offset}) : std::nullopt;
}

StagingRing::Read StagingRing::StartRead() {
  const std::optional<Read> next = Next();
  CAUSEWAY_CHECK(next.has_value(), "nothing can be read");
  if (!expected_.empty()) {
    expected_.pop_front();
  } else {
    GoTo(cursor_ + 1);
  }
  slots_.push_back({.id = next->id, .offset = next->offset, .bytes = weights_[next->id].bytes});
  return *next;
}

void StagingRing::FinishRead(absl::Status status) {
  CAUSEWAY_CHECK(!slots_.empty() && !slots_.back().read, "no read is under way");
  slots_.back().status = std::move(status);
  slots_.back().read = true;
  PopReleased();
}

size_t StagingRing::FirstUnacquired() const {
  size_t at = 0;
  while (at < slots_.size() && (slots_[at].acquired || slots_[at].released)) ++at;
  return at;
}

void StagingRing::DropUnacquired() {
  for (Slot& slot : slots_) slot.released |= !slot.acquired;
  PopReleased();
}

void StagingRing::PopReleased() {
  while (!slots_.empty() && slots_.front().read && slots_.front().released) slots_.pop_front();
  // A weight that was dropped may stand after one that is acquired. It would keep its room until that one is released,
  // and the next one to be acquired together with that one would wait for ever.
  while (!slots_.empty() && slots_.back().read && slots_.back().released) slots_.pop_back();
}

void StagingRing::BeginStep(int64_t rows) {
  const bool was_on_cpu = std::exchange(step_rows_, rows) <= cpu_rows_.in_order;
  if (order_.empty() || was_on_cpu == (rows <= cpu_rows_.in_order)) return;
  // This step fetches other weights than the last one did, so what was prefetched for it is of no use.
  DropUnacquired();
  expected_.clear();
  GoTo(used_);
}

void StagingRing::Expect(const std::vector<Use>& uses) {
  std::deque<int> expected;
  for (const auto& [id, rows] : uses) {
    weights_[id].rows = rows;
    if (!OnCpu(weights_[id])) expected.push_back(id);
  }
  if (!expected.empty()) {
    DropUnacquired();
    GoTo(weights_[expected.front()].position + 1);
  } else if (!order_.empty() && expected_.empty() && order_[cursor_] == kBarrier) {
    GoTo(cursor_ + 1);
  }
  expected_ = std::move(expected);
}

StagingRing::Acquired StagingRing::Acquire(int id) {
  const Weight& weight = weights_[id];
  used_ = (weight.position + 1) % order_.size();
  if (OnCpu(weight)) return {.state = Acquired::State::kOnCpu};
  if (const size_t ahead = FirstUnacquired(); (ahead < slots_.size() ? slots_[ahead].id : NextId()) != id) {
    // Another weight was prefetched.
    DropUnacquired();
    expected_.clear();
    GoTo(weight.in_order ? weight.position : weight.position + 1);
    if (!weight.in_order) expected_.push_back(id);
  }
  if (!CanAcquire()) return {.state = Acquired::State::kWait};
  Slot& slot = slots_[FirstUnacquired()];
  if (slot.status.ok()) {
    slot.acquired = true;
    return {.state = Acquired::State::kReady, .offset = slot.offset};
  }
  absl::Status status = slot.status;
  slot.released = true;
  PopReleased();
  return {.state = Acquired::State::kFailed, .status = std::move(status)};
}

bool StagingRing::CanAcquire() const {
  const size_t ahead = FirstUnacquired();
  return ahead < slots_.size() && slots_[ahead].read;
}

bool StagingRing::Release(int id) {
  for (Slot& slot : slots_) {
    if (slot.id != id || !slot.acquired || slot.released) continue;
    slot.released = true;
    PopReleased();
    return true;
  }
  return false;
}

std::vector<int> StagingRing::ReleaseAll() {
  std::vector<int> acquired;
  for (Slot& slot : slots_) {
    if (slot.acquired && !slot.released) acquired.push_back(slot.id);
    slot.released = true;
  }
  expected_.clear();
  PopReleased();
  return acquired;
}

}  // namespace causeway
