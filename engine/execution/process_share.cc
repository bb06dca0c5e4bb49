#include "engine/execution/process_share.h"

#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "engine/plan/ranks.h"

namespace causeway {

std::vector<int> DevicesInUse(const Plan& plan) {
  std::set<int> used;
  for (const Segment& segment : plan.segments) used.insert(segment.devices.begin(), segment.devices.end());
  return {used.begin(), used.end()};
}

std::string WhereIs(const Plan& plan, int device) {
  const Device& at = plan.devices[device].device;
  const std::optional<DevicePlace> place = PlacesOf(plan)[device];
  return absl::StrCat("rank ", at.process, at.host.empty() ? "" : absl::StrCat(" (", at.host, ")"), ", ",
                      place.has_value() ? absl::StrCat("stage ", place->stage, ", ") : "", at.name);
}

absl::StatusOr<ProcessShare> ConnectShare(Rendezvous& rendezvous, const std::string& name, const Plan& plan,
                                          const std::vector<int>& own, const std::string& address) {
  ProcessShare share;
  const std::vector<int> used = DevicesInUse(plan);
  if (own.size() == used.size()) return share;
  share.whole = false;
  if (own.empty()) return share;
  for (size_t i = 0; i < used.size(); ++i) share.peers[used[i]] = static_cast<int>(i);
  std::vector<int> numbers;
  for (const int device : own) numbers.push_back(share.peers.at(device));
  CAUSEWAY_ASSIGN_OR_RETURN(std::vector<std::unique_ptr<Endpoint>> endpoints,
                            rendezvous.Connect(name, numbers, static_cast<int>(used.size()), address));
  for (size_t i = 0; i < own.size(); ++i) share.own[own[i]] = std::move(endpoints[i]);
  return share;
}

absl::Status CheckProcesses(const Plan& plan, const std::vector<int>& devices_of_process) {
  int first = 0;
  for (size_t process = 0; process < devices_of_process.size(); ++process) {
    const int end = first + devices_of_process[process];
    std::set<int> whole, parts;  // groups of which the process has all ranks, or some; by their first device
    for (const Segment& segment : plan.segments) {
      size_t own = 0;
      for (const int device : segment.devices) own += device >= first && device < end;
      if (own == segment.devices.size()) whole.insert(segment.device());
      if (own > 0 && own < segment.devices.size()) parts.insert(segment.device());
    }
    if (parts.size() + (whole.empty() ? 0 : 1) > 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("process ", process, " has ", devices_of_process[process],
                       " devices, which are parts of several groups of ", plan.segments.front().devices.size(),
                       " ranks; expected processes with whole groups, or with ranks of one group each"));
    }
    first = end;
  }
  return absl::OkStatus();
}

}  // namespace causeway
