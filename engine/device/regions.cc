#include "engine/device/regions.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>

namespace causeway {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

size_t RoundedUp(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

}  // namespace

struct Regions::Region {
  void* mapping = nullptr;
  size_t mapped_bytes = 0;
  char* next = nullptr;
  char* end = nullptr;
  int64_t blocks = 0;

  ~Region() {
    if (mapping != nullptr) munmap(mapping, mapped_bytes);
  }
};

Regions::Block Regions::Allocate(size_t bytes) {
  bytes = RoundedUp(bytes, kAlignment);
  absl::MutexLock lock(&mutex_);
  if (open_ == nullptr || static_cast<size_t>(open_->end - open_->next) < bytes) {
    auto region = std::make_unique<Region>();
    const size_t usable = RoundedUp(std::max(bytes, kRegionBytes), kHugePage);
    void* mapping =
        mmap(nullptr, usable + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) return {};
    region->mapping = mapping;
    region->mapped_bytes = usable + kHugePage;
    region->next = reinterpret_cast<char*>(RoundedUp(reinterpret_cast<uintptr_t>(mapping), kHugePage));
    region->end = region->next + usable;
    madvise(region->next, usable, MADV_HUGEPAGE);  // only advice
    // The one before it is left to its blocks, which there are: it would have been closed with the last.
    open_ = region.release();
    ++count_;
  }
  ++open_->blocks;
  return {std::exchange(open_->next, open_->next + bytes), open_};
}

void Regions::Free(Region* region) {
  std::unique_ptr<Region> closed;  // unmapped outside the lock
  absl::MutexLock lock(&mutex_);
  if (--region->blocks > 0) return;
  closed.reset(region);
  if (open_ == region) open_ = nullptr;
  --count_;
}

int64_t Regions::count() const {
  absl::MutexLock lock(&mutex_);
  return count_;
}

}  // namespace causeway
