// The largest magnitudes of rows that the ranks of a group have shares of.
#ifndef CAUSEWAY_ENGINE_WEIGHTS_ROW_MAXIMA_H_
#define CAUSEWAY_ENGINE_WEIGHTS_ROW_MAXIMA_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "engine/weights/targets.h"

namespace causeway {

// A row that is quantized to int8 while it is loaded has one scale, by its largest magnitude. For the ranks to hold the
// numbers that one device would hold, each needs that of the whole row. Thread-safe.
class RowMaxima {
 public:
  // Whether the target holds shares of rows that have one scale.
  static bool Concern(const LinearTarget& target);

  // Those of the targets whose maxima have to be known before any of them is filled, all of one portion.
  static LoadTargets Shares(const LoadTargets& targets);

  // Counts shares [n, inputs] of outputs [first, first + n) of a tensor.
  void Add(const std::string& tensor, int64_t first, const at::Tensor& shares);
  // fp32 [count], of all shares that were added. A value that is not finite counts as the largest.
  at::Tensor Of(const std::string& tensor, int64_t first, int64_t count) const;

 private:
  mutable absl::Mutex mutex_;
  // By tensor and output: the bits of a positive fp32 number, which are ordered as the numbers are.
  std::map<std::string, std::vector<int32_t>> bits_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_WEIGHTS_ROW_MAXIMA_H_
