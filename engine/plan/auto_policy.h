// `auto`: contiguous stages over the devices, in their order, that minimise the fullest device. Exact, by dynamic programming.
#ifndef CAUSEWAY_ENGINE_PLAN_AUTO_POLICY_H_
#define CAUSEWAY_ENGINE_PLAN_AUTO_POLICY_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace causeway {

struct StageDevice {
  int64_t budget = 0;   // 0: takes nothing
  int64_t reserve = 0;  // taken as soon as the device holds anything
};

// What a run of consecutive items costs on a device. Neither figure may fall when a run grows.
class StageCosts {
 public:
  explicit StageCosts(int items) : items_(items), costs_(static_cast<size_t>(items) * items) {}
  int items() const { return items_; }

  struct Cost {
    int64_t fixed_bytes = 0;  // weights, activations
    int64_t block_bytes = 0;  // of one block of the KV cache
    bool allowed = true;      // false: no stage may be just this
    int64_t bytes(int64_t blocks) const { return fixed_bytes + blocks * block_bytes; }
  };
  Cost& at(int first, int last) { return costs_[static_cast<size_t>(first) * items_ + last]; }  // last inclusive
  const Cost& at(int first, int last) const { return costs_[static_cast<size_t>(first) * items_ + last]; }

 private:
  int items_;
  std::vector<Cost> costs_;
};

struct Partition {
  std::vector<int> device_of_item;  // non-decreasing; empty: no device has a budget
  double fullest = 0;               // the largest (bytes / budget); above 1 it does not fit
  double spread = 0;                // sum of squares of (bytes / budget): for equal budgets, least where the variance is
};

// The least `fullest`, and of those the least `spread`, with `blocks` blocks of KV cache. Devices may stay empty.
Partition BestPartition(const StageCosts& costs, absl::Span<const StageDevice> devices, int64_t blocks);

// The most blocks, up to `wanted`, with which some partition keeps every budget; -1 when none does even with 0.
int64_t MostBlocks(const StageCosts& costs, absl::Span<const StageDevice> devices, int64_t wanted);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_PLAN_AUTO_POLICY_H_
