// A rehearsal: steps whose numbers nobody reads.
#ifndef CAUSEWAY_ENGINE_OPS_REHEARSAL_H_
#define CAUSEWAY_ENGINE_OPS_REHEARSAL_H_

#include <algorithm>
#include <cstdint>

namespace causeway {

// While it lives, the fused CPU kernels that the calling thread runs compute the first rows of products and of
// attention, and make the other rows zeros. Of the rows to sample from, they look only at the first. They take all
// memory as without it, so that a warm-up finds out what a step needs in a fraction of its time. Other operations, and
// other devices' Ops, are not affected.
class Rehearsal {
 public:
  Rehearsal() { ++depth_; }
  ~Rehearsal() { --depth_; }
  Rehearsal(const Rehearsal&) = delete;
  Rehearsal& operator=(const Rehearsal&) = delete;

  static bool Now() { return depth_ > 0; }
  // How many of `rows` rows are computed.
  static int64_t Rows(int64_t rows) { return Now() ? std::min(rows, kRows) : rows; }

 private:
  static constexpr int64_t kRows = 16;  // enough to go through every path of the kernels
  static inline thread_local int depth_ = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_OPS_REHEARSAL_H_
