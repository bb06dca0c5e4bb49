// `auto`: contiguous stages over the devices, in their order, that minimise the fullest device. Exact.
#ifndef CAUSEWAY_ENGINE_PLAN_AUTO_POLICY_H_
#define CAUSEWAY_ENGINE_PLAN_AUTO_POLICY_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/types/span.h"

namespace causeway {

struct StageDevice {
  int64_t budget = 0;   // 0: takes nothing
  int64_t reserve = 0;  // taken as soon as the device computes anything
};

// Of a run of consecutive items on a device.
struct StageCost {
  int64_t fixed_bytes = 0;  // weights, activations
  int64_t block_bytes = 0;  // of one block of the KV cache
  bool computes =
      true;  // false: holds what no step needs, so that the device is no stage: no reserve, nothing handed over
  int64_t bytes(int64_t blocks) const { return fixed_bytes + blocks * block_bytes; }
};

struct StageCosts {
  int items = 0;
  std::function<StageCost(int first, int last)> of;  // last inclusive; no figure may fall when a run grows
  // On each stage, by how many stages there are; may not fall. Empty: nothing.
  std::vector<int64_t> handoff_bytes;
};

struct Partition {
  std::vector<int> device_of_item;  // non-decreasing; empty: no device has a budget
  double fullest = 0;               // the largest (bytes / budget); above 1 it does not fit
  double spread = 0;  // sum of squares of (bytes / budget): for equal budgets, least where the variance is
};

// The least `fullest`, and of those the least `spread`, with `blocks` blocks of KV cache. Devices may stay empty.
Partition BestPartition(const StageCosts& costs, absl::Span<const StageDevice> devices, int64_t blocks);

// The most blocks, up to `wanted`, with which some partition keeps every budget; -1 when none does even with 0.
int64_t MostBlocks(const StageCosts& costs, absl::Span<const StageDevice> devices, int64_t wanted);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_PLAN_AUTO_POLICY_H_
