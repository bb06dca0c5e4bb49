// The plan's bytes of a device held against the measured ones.
#ifndef CAUSEWAY_ENGINE_EXECUTION_MEMORY_LEFT_H_
#define CAUSEWAY_ENGINE_EXECUTION_MEMORY_LEFT_H_

#include <cstdint>

#include "engine/base/device_memory.h"
#include "engine/plan/plan.h"

namespace causeway {

// Planned less measured; below 0 more was taken than planned.
struct MemoryLeft {
  int64_t weights = 0, kv_cache = 0;
  int64_t activations = 0;  // of the worst step so far, its workspace included
  int64_t budget = 0;       // what of the budget nothing has taken
};

inline MemoryLeft PlannedLessMeasured(const DevicePlan& planned, const DeviceMemory& measured) {
  const int64_t step = measured.activations_peak + measured.workspace;
  return {.weights = planned.weights - measured.weights,
          .kv_cache = planned.kv_cache - measured.kv_cache,
          .activations = planned.activations - step,
          .budget = planned.budget - planned.reserve - measured.weights - measured.kv_cache - step};
}

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_EXECUTION_MEMORY_LEFT_H_
