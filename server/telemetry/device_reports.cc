#include "server/telemetry/device_reports.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <utility>

namespace causeway {
namespace {

int64_t OtherBytes(const Plan& plan, const ExecutorStats& stats) {
  int64_t other = ResidentBytes();
  for (size_t i = 0; i < plan.devices.size() && i < stats.devices.size(); ++i) {
    if (!ComputesOnCpu(plan.devices[i].device.kind)) continue;
    const DeviceMemory& m = stats.devices[i].memory;
    other -= m.weights + m.kv_cache + m.activations + m.workspace;
  }
  // A KV cache that is allocated but not yet touched is no resident memory.
  return std::max<int64_t>(other, 0);
}

}  // namespace

std::vector<DeviceReport> ReportDevices(const Plan& plan, const ExecutorStats& stats) {
  std::vector<DeviceReport> reports;
  const int64_t other = OtherBytes(plan, stats);
  bool has_cpu = false;
  const std::vector<std::optional<DevicePlace>> places = PlacesOf(plan);
  for (size_t i = 0; i < plan.devices.size(); ++i) {
    const DevicePlan& planned = plan.devices[i];
    DeviceReport report{
        .name = planned.device.name, .model = planned.device.model, .place = places[i], .planned = &planned};
    if (i < stats.devices.size()) {
      report.measured = &stats.devices[i];
      report.left = PlannedLessMeasured(planned, report.measured->memory);
    }
    if (planned.device.kind == DeviceKind::kCpu) {
      report.other = other;
      has_cpu = true;
    }
    reports.push_back(std::move(report));
  }
  if (!has_cpu) reports.push_back({.name = "cpu", .model = "cpu", .other = other});
  return reports;
}

int64_t ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t size = 0, resident = 0;
  statm >> size >> resident;
  return statm ? resident * sysconf(_SC_PAGESIZE) : 0;
}

}  // namespace causeway
