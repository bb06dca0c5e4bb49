// One stretch of memory that short-lived blocks come from, so that what was set aside at startup is really held and no
// operation pays for fresh pages.
#ifndef CAUSEWAY_ENGINE_DEVICE_ARENA_H_
#define CAUSEWAY_ENGINE_DEVICE_ARENA_H_

#include <cstddef>
#include <map>

#include "absl/types/span.h"

namespace causeway {

// Best fit; neighbouring holes are merged, so that steps of ever different shapes don't wear it out. Not thread-safe.
class Arena {
 public:
  static constexpr size_t kAlignment = 64;

  // The pages are there once somebody has touched them (memory()). Throws std::bad_alloc when the system refuses.
  explicit Arena(size_t bytes);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Aligned to 64 bytes; null when no hole is large enough. `bytes` > 0.
  void* Allocate(size_t bytes);
  // `bytes` as given to Allocate.
  void Free(void* block, size_t bytes);

  absl::Span<char> memory() const { return absl::MakeSpan(base_, capacity_); }
  size_t capacity() const { return capacity_; }
  size_t holes() const { return holes_.size(); }

 private:
  const size_t capacity_;
  char* base_;
  std::map<size_t, size_t> holes_;  // offset -> bytes; a step has few blocks alive, hence few holes: a scan is cheap
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_DEVICE_ARENA_H_
