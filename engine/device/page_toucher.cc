#include "engine/device/page_toucher.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <utility>

namespace causeway {
namespace {

constexpr uintptr_t kHugePage = 2 << 20;
constexpr uintptr_t kNear = 64;  // blocks of one mapping lie no farther apart (Regions)

uintptr_t Down(uintptr_t at, uintptr_t to) { return at / to * to; }

// By faults and not by madvise, which holds up whoever maps memory meanwhile. The write changes nothing, whoever else
// writes there.
void Touch(absl::Span<char> piece) {
  static const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = reinterpret_cast<uintptr_t>(piece.data()), end = begin + piece.size();
  for (uintptr_t at = begin; at < end; at = Down(at, page) + page)
    __atomic_fetch_or(reinterpret_cast<char*>(at), 0, __ATOMIC_RELAXED);
}

}  // namespace

void PageToucher::Add(absl::Span<char> memory) {
  char* at = memory.data();
  char* const end = at + memory.size();
  while (at < end) {
    // Two threads that take one huge page at once would both clear it.
    const uintptr_t window = Down(reinterpret_cast<uintptr_t>(at), kHugePage);
    char* const next = std::min(end, reinterpret_cast<char*>(window + kHugePage));
    char* const last = pieces_.empty() ? nullptr : pieces_.back().data() + pieces_.back().size();
    if (last != nullptr && last <= at && at - last < static_cast<ptrdiff_t>(kNear) &&
        Down(reinterpret_cast<uintptr_t>(last) - 1, kHugePage) == window) {
      pieces_.back() = absl::MakeSpan(pieces_.back().data(), next);
    } else {
      pieces_.push_back(absl::MakeSpan(at, next));
    }
    at = next;
  }
}

PageToucher::~PageToucher() {
  next_ = pieces_.size();  // nobody wants the rest
  Join();
}

void PageToucher::Start(int threads) {
  const size_t left = pieces_.size() - std::min(next_.load(), pieces_.size());
  for (size_t i = 0; i < std::min(static_cast<size_t>(std::max(threads, 0)), left); ++i) {
    threads_.emplace_back([this] {
      while (TouchNext()) {
      }
    });
  }
}

void PageToucher::Finish(int threads) {
  Start(threads - 1);
  while (TouchNext()) {
  }
  Join();
  pieces_.clear();
  next_ = 0;
}

bool PageToucher::TouchNext() {
  const size_t i = next_++;
  if (i >= pieces_.size()) return false;
  Touch(pieces_[i]);
  return true;
}

void PageToucher::Join() {
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

}  // namespace causeway
