#include "tests/support/cuda_emulator/block.h"

#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace causeway::cuda_emulator {
namespace {

constexpr const char* kBarrier = "__syncthreads";

// A set bit of `bits`, which has one. Bits after a gap are drawn more often, which does no harm here.
int AnyBit(uint32_t bits, uint32_t random) {
  const int turn = random % 32;
  return (std::countr_zero(std::rotr(bits, turn)) + turn) % 32;
}

}  // namespace

Block::Block(Fibers& fibers, std::minstd_rand& random, int threads)
    : fibers_(fibers), random_(random), side_by_side_(random() & 256), threads_(threads) {
  warps_.resize((threads + kLanes - 1) / kLanes);
  for (int t = 0; t < threads; ++t) {
    warps_[t / kLanes].lanes |= 1u << t % kLanes;
    Release(t);
  }
}

std::string Block::Run(const std::function<void(int)>& enter, const std::function<void()>& kernel) {
  const std::function<void()> body = [&] {
    kernel();
    End();
  };
  fibers_.Start(static_cast<int>(threads_.size()), body);
  while (error_.empty() && ended_ < static_cast<int>(threads_.size())) {
    if (runnable_warps_ == 0) return Deadlock();
    current_ = Next();
    enter(current_);
    fibers_.Resume(current_);
  }
  return error_;
}

int Block::Next() {
  const int last = current_ / kLanes;
  const uint32_t random = random_() >> 8;
  // A warp that waits for another one in a loop is left at last.
  const bool stay = !side_by_side_ && warps_[last].runnable != 0 && random >> 10 & 63;
  const int w = stay ? last : AnyBit(runnable_warps_, random);
  Warp& warp = warps_[w];
  const int lane = AnyBit(warp.runnable, random >> 5);
  warp.runnable &= ~(1u << lane);
  if (warp.runnable == 0) runnable_warps_ &= ~(1u << w);
  return w * kLanes + lane;
}

void Block::Release(int thread) {
  threads_[thread].waits_at = nullptr;
  warps_[thread / kLanes].runnable |= 1u << thread % kLanes;
  runnable_warps_ |= 1u << thread / kLanes;
}

void Block::Wait(const char* call, int line) {
  threads_[current_].waits_at = call;
  threads_[current_].line = line;
}

void Block::End() {
  threads_[current_].ended = true;
  ++ended_;
  Warp& warp = warps_[current_ / kLanes];
  warp.ended |= 1u << lane();
}

void Block::MayYield() {
  if (random_() & 256) return;
  Release(current_);
  fibers_.Suspend();
}

void Block::Fail(std::string what) {
  // The caller's frames stay as they are, so that nothing in them may own memory any more.
  error_ = std::move(what);
  for (;;) fibers_.Suspend();
}

void Block::Barrier(int line) {
  if (at_barrier_ > 0 && line != barrier_line_) {
    Fail(absl::StrCat("__syncthreads of line ", line, " while others wait at that of line ", barrier_line_));
  }
  barrier_line_ = line;
  Wait(kBarrier, line);
  if (++at_barrier_ == static_cast<int>(threads_.size())) {
    at_barrier_ = 0;
    ++barriers_;
    for (size_t t = 0; t < threads_.size(); ++t) Release(static_cast<int>(t));
  }
  fibers_.Suspend();
}

uint64_t Block::Exchange(const char* call, uint32_t mask, uint64_t value, int source, int line) {
  Warp& warp = warps_[current_ / kLanes];
  const uint32_t self = 1u << lane();
  // Frames that Fail leaves for good own no string: these are made in the lambda.
  const auto wrong = [=](const char* what, int other, const char* is) {
    return absl::StrFormat("%s of line %d with mask %08x: %slane %d%s", call, line, mask, what, other, is);
  };
  if ((mask & self) == 0) Fail(wrong("the mask does not name its caller, ", lane(), ""));
  if (const uint32_t missing = mask & ~warp.lanes; missing != 0) {
    Fail(wrong("there is no ", std::countr_zero(missing), ""));
  }
  if (const uint32_t gone = mask & warp.ended; gone != 0) Fail(wrong("", std::countr_zero(gone), " has ended"));
  size_t g = 0;
  while (g < warp.groups.size() && (warp.groups[g].mask & mask) == 0) ++g;
  if (g == warp.groups.size()) warp.groups.push_back({call, mask, 0, line});
  Group& group = warp.groups[g];
  if (group.call != call || group.mask != mask || group.line != line) {
    Fail(absl::StrFormat("%s of line %d with mask %08x, while lane %d waits at %s of line %d with mask %08x", call,
                         line, mask, std::countr_zero(group.arrived), group.call, group.line, group.mask));
  }
  Thread& thread = threads_[current_];
  thread.value = value;
  thread.source = source;
  Wait(call, line);
  group.arrived |= self;
  if (group.arrived == mask) Complete(warp, g);
  fibers_.Suspend();
  return thread.value;
}

void Block::Complete(Warp& warp, size_t g) {
  const Group group = warp.groups[g];
  const int first = current_ / kLanes * kLanes;
  uint64_t values[kLanes];
  for (int l = 0; l < kLanes; ++l) {
    if ((group.mask >> l & 1) == 0) continue;
    const int source = threads_[first + l].source;
    if ((group.mask >> source & 1) == 0) {
      Fail(absl::StrFormat("%s of line %d with mask %08x: lane %d reads lane %d, which takes no part", group.call,
                           group.line, group.mask, l, source));
    }
    values[l] = threads_[first + source].value;
  }
  for (int l = 0; l < kLanes; ++l) {
    if ((group.mask >> l & 1) == 0) continue;
    threads_[first + l].value = values[l];
    Release(first + l);
  }
  warp.groups.erase(warp.groups.begin() + static_cast<int64_t>(g));
  ++exchanges_;
}

std::string Block::Whereabouts(int thread) const {
  const Thread& t = threads_[thread];
  if (t.ended) return absl::StrCat("thread ", thread, " has ended");
  return absl::StrCat("thread ", thread, " waits at ", t.waits_at, " of line ", t.line);
}

std::string Block::Deadlock() const {
  // A thread that waits, and one that it waits for.
  for (size_t w = 0; w < warps_.size(); ++w) {
    for (const Group& group : warps_[w].groups) {
      const int first = static_cast<int>(w) * kLanes;
      return absl::StrCat("deadlock: ", Whereabouts(first + std::countr_zero(group.arrived)), ", ",
                          Whereabouts(first + std::countr_zero(group.mask & ~group.arrived)));
    }
  }
  int waits = 0, missing = 0;
  for (size_t t = 0; t < threads_.size(); ++t) (threads_[t].ended ? missing : waits) = static_cast<int>(t);
  return absl::StrCat("deadlock: ", Whereabouts(waits), ", ", Whereabouts(missing));
}

}  // namespace causeway::cuda_emulator
