#include "server/cluster/group.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/execution/process_share.h"

namespace causeway {

std::vector<Device> JoinDevices(absl::Span<const ProcessDevices> processes) {
  std::map<std::string, int> of_host;
  int64_t host_bytes = 0;
  for (const ProcessDevices& process : processes) {
    ++of_host[process.host];
    for (const Device& device : process.devices) {
      if (device.host_bytes > 0)
        host_bytes = host_bytes == 0 ? device.host_bytes : std::min(host_bytes, device.host_bytes);
    }
  }
  std::vector<Device> all;
  for (size_t rank = 0; rank < processes.size(); ++rank) {
    for (Device device : processes[rank].devices) {
      if (device.kind == DeviceKind::kCpu) {
        device.kind = DeviceKind::kSimulated;
        device.memory_bytes = device.available_bytes / 10 * 9 / of_host[processes[rank].host];
        device.available_bytes = device.memory_bytes;
      }
      device.id = static_cast<int>(all.size());
      device.name = absl::StrCat(device.name, "@", rank);
      device.host = processes[rank].host;
      device.process = static_cast<int>(rank);
      device.host_bytes = host_bytes;
      all.push_back(std::move(device));
    }
  }
  return all;
}

std::vector<int> DevicesOfProcesses(const Plan& plan, int processes) {
  std::vector<int> counts(processes);
  for (const DevicePlan& device : plan.devices) ++counts[device.device.process];
  return counts;
}

std::vector<int> ProcessesInUse(const Plan& plan) {
  std::set<int> processes;
  for (const int device : DevicesInUse(plan)) processes.insert(plan.devices[device].device.process);
  return {processes.begin(), processes.end()};
}

std::vector<int> OwnDevices(const Plan& plan, int process) {
  std::vector<int> own = DevicesInUse(plan);
  std::erase_if(own, [&](int device) { return plan.devices[device].device.process != process; });
  return own;
}

}  // namespace causeway
