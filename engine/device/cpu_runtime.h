// The CPU, and simulated devices: the CPU with a memory budget.
#ifndef CAUSEWAY_ENGINE_DEVICE_CPU_RUNTIME_H_
#define CAUSEWAY_ENGINE_DEVICE_CPU_RUNTIME_H_

#include <memory>
#include <string>

#include "engine/device/device_runtime.h"

namespace causeway {

// budget_bytes 0: without limit.
std::unique_ptr<DeviceRuntime> MakeCpuRuntime(const std::string& name, int64_t budget_bytes, bool reference_ops);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_DEVICE_CPU_RUNTIME_H_
