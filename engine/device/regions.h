// Memory for blocks that are allocated one after the other and kept: weights and the KV cache.
#ifndef CAUSEWAY_ENGINE_DEVICE_REGIONS_H_
#define CAUSEWAY_ENGINE_DEVICE_REGIONS_H_

#include <cstddef>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace causeway {

// Blocks lie side by side in large regions of huge pages. A page may hold the end of one block and the beginning of the
// next: the thousands of experts of a model, a few megabytes each, would otherwise lie on small pages for a good part,
// and reading those is slower by up to a half. Nothing here touches a page: who writes to a block first is who pays for
// its pages. Thread-safe.
class Regions {
 public:
  static constexpr size_t kAlignment = 64, kRegionBytes = size_t{256} << 20;

  struct Region;
  struct Block {
    void* data = nullptr;  // null: the system refused
    Region* region = nullptr;
  };
  // Aligned to 64 bytes; `bytes` > 0. Zeroed: a region comes fresh from the system, and no part of it is handed out
  // twice.
  Block Allocate(size_t bytes);
  // A region goes back to the system with its last block.
  void Free(Region* region);

  int64_t count() const;

 private:
  mutable absl::Mutex mutex_;
  Region* open_ ABSL_GUARDED_BY(mutex_) = nullptr;  // where the next block goes; null: nowhere yet
  int64_t count_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_DEVICE_REGIONS_H_
