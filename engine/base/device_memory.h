// What a device's memory is used for, measured.
#ifndef CAUSEWAY_ENGINE_BASE_DEVICE_MEMORY_H_
#define CAUSEWAY_ENGINE_BASE_DEVICE_MEMORY_H_

#include <cstdint>

namespace causeway {

// Bytes by owner, as handed out by the allocators that tag their owner.
struct DeviceMemory {
  int64_t weights = 0, kv_cache = 0, activations = 0, activations_peak = 0, workspace = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_BASE_DEVICE_MEMORY_H_
