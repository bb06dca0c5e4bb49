#include "engine/device/arena.h"

#include <sys/mman.h>

#include <iterator>
#include <new>

namespace causeway {
namespace {

size_t RoundUp(size_t bytes) { return (bytes + Arena::kAlignment - 1) / Arena::kAlignment * Arena::kAlignment; }

}  // namespace

Arena::Arena(size_t bytes) : capacity_(RoundUp(bytes)) {
  void* base = mmap(nullptr, capacity_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) throw std::bad_alloc();
  base_ = static_cast<char*>(base);
  madvise(base_, capacity_, MADV_HUGEPAGE);  // only advice: fewer TLB misses where the kernel agrees
  holes_[0] = capacity_;
}

Arena::~Arena() { munmap(base_, capacity_); }

void* Arena::Allocate(size_t bytes) {
  const size_t wanted = RoundUp(bytes);
  auto best = holes_.end();
  for (auto hole = holes_.begin(); hole != holes_.end(); ++hole) {
    if (hole->second >= wanted && (best == holes_.end() || hole->second < best->second)) best = hole;
  }
  if (best == holes_.end()) return nullptr;
  const auto [offset, size] = *best;
  holes_.erase(best);
  if (size > wanted) holes_[offset + wanted] = size - wanted;
  return base_ + offset;
}

void Arena::Free(void* block, size_t bytes) {
  size_t offset = static_cast<char*>(block) - base_;
  size_t size = RoundUp(bytes);
  auto next = holes_.lower_bound(offset);
  if (next != holes_.end() && offset + size == next->first) {
    size += next->second;
    next = holes_.erase(next);
  }
  if (next != holes_.begin()) {
    auto previous = std::prev(next);
    if (previous->first + previous->second == offset) {
      previous->second += size;
      return;
    }
  }
  holes_[offset] = size;
}

}  // namespace causeway
