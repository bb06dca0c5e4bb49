// What the plan says of each device beside what is measured there: what status and metrics show.
#ifndef CAUSEWAY_SERVER_TELEMETRY_DEVICE_REPORTS_H_
#define CAUSEWAY_SERVER_TELEMETRY_DEVICE_REPORTS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/execution/memory_left.h"
#include "engine/plan/ranks.h"

namespace causeway {

struct DeviceReport {
  std::string name, model;
  std::optional<DevicePlace> place;     // of those that hold a part of the model
  const DevicePlan* planned = nullptr;  // null: the CPU, in whose memory the process lives without a part of the model
  const DeviceStats* measured = nullptr;  // null: not planned, or still loading
  MemoryLeft left;                        // where there is something measured
  std::optional<int64_t> other;           // of the CPU: resident memory beyond what the engine's allocators handed out
};

// The plan's devices in its order, and the CPU at the end where it is none of them. Both arguments must outlive the
// result.
std::vector<DeviceReport> ReportDevices(const Plan& plan, const ExecutorStats& stats);

// The process's resident memory in bytes, as the kernel counts it; 0 when it does not say.
int64_t ResidentBytes();

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_TELEMETRY_DEVICE_REPORTS_H_
