// A replica whose devices several processes drive, as one of these processes sees it.
#ifndef CAUSEWAY_ENGINE_EXECUTION_PROCESS_SHARE_H_
#define CAUSEWAY_ENGINE_EXECUTION_PROCESS_SHARE_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/device/endpoint.h"
#include "engine/plan/plan.h"

namespace causeway {

// Devices are indices into Plan::devices. By default, all are this process's.
struct ProcessShare {
  bool whole = true;
  std::map<int, std::unique_ptr<Endpoint>> own;  // this process's devices that hold units, where not all are
  std::map<int, int> peers;                      // of all devices that hold units: the numbers of their endpoints

  bool has(int device) const { return whole || own.contains(device); }
};

// The devices of a plan that hold units, ascending.
std::vector<int> DevicesInUse(const Plan& plan);

// "rank 1 (host-b), stage 1, cuda:0@1": a device that another process may drive, in errors.
std::string WhereIs(const Plan& plan, int device);

// The share of a process that has these of the devices in use, connected to the others': waits until each of them has
// called this with the same name. Whole, and not connected, where it has all of them. Errors are the rendezvous's.
absl::StatusOr<ProcessShare> ConnectShare(Rendezvous& rendezvous, const std::string& name, const Plan& plan,
                                          const std::vector<int>& own, const std::string& address);

// Whether processes with so many devices each, in the plan's order, can drive it together. InvalidArgument: one has
// parts of several groups of ranks, which none may; says which.
absl::Status CheckProcesses(const Plan& plan, const std::vector<int>& devices_of_process);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_EXECUTION_PROCESS_SHARE_H_
