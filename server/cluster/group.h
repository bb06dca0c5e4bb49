// The devices of all processes of a group, as one machine for the plan.
#ifndef CAUSEWAY_SERVER_CLUSTER_GROUP_H_
#define CAUSEWAY_SERVER_CLUSTER_GROUP_H_

#include <string>
#include <vector>

#include "absl/types/span.h"
#include "engine/plan/device.h"
#include "engine/plan/plan.h"

namespace causeway {

// What a process brings.
struct ProcessDevices {
  std::string host;
  std::vector<Device> devices;
};
// All of them, by process: numbered through, with "@" and the process's rank behind their names. A CPU becomes a device
// with a budget, of 0.9 of what is free of its host's memory, shared out among the processes there. The memory that
// weights may be offloaded to is counted as though it was one host's, the one that has the least.
std::vector<Device> JoinDevices(absl::Span<const ProcessDevices> processes);

// How many of the plan's devices each of so many processes has.
std::vector<int> DevicesOfProcesses(const Plan& plan, int processes);
// The processes that have devices in use of the plan, ascending.
std::vector<int> ProcessesInUse(const Plan& plan);
// A process's devices in use, ascending, by index into the plan's.
std::vector<int> OwnDevices(const Plan& plan, int process);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_CLUSTER_GROUP_H_
