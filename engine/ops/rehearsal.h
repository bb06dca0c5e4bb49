// Steps whose numbers nobody reads.
#ifndef CAUSEWAY_ENGINE_OPS_REHEARSAL_H_
#define CAUSEWAY_ENGINE_OPS_REHEARSAL_H_

#include <algorithm>
#include <cstdint>

namespace causeway {

// While it lives, the fused kernels of the CPU that the calling thread runs compute the first rows of products and of
// attention and make the others zeros, and of the rows to sample from only the first are looked at. All memory is taken
// as without it: a warm-up finds out what a step needs at a fraction of its time. Other operations, and other devices'
// Ops, are as always.
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
  static constexpr int64_t kRows = 16;  // enough for every way through the kernels
  static inline thread_local int depth_ = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_OPS_REHEARSAL_H_
