// Plans for devices in groups: neighbours that share every layer, each a rank of its group. A plan is made for the
// first of each group as rank 0, whose share is the largest, and laid out for the others by the same map.
#ifndef CAUSEWAY_ENGINE_PLAN_RANKS_H_
#define CAUSEWAY_ENGINE_PLAN_RANKS_H_

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/architecture/spec.h"
#include "engine/plan/budgets.h"
#include "engine/plan/device.h"
#include "engine/plan/layout.h"

namespace causeway {

// "tp=2", "dp=2,pp=2,tp=4"; "" is {}. InvalidArgument: another key, a key twice, a number out of range.
absl::StatusOr<Parallel> ParseParallel(absl::string_view text);

struct DeviceGroups {
  int size = 1;               // devices of a group
  std::vector<Device> first;  // of each group
  Budgets budgets;            // by group: what each of its ranks may use
};
// InvalidArgument: another number of devices than that, or a group of several kinds.
absl::StatusOr<DeviceGroups> GroupDevices(absl::Span<const Device> devices, const Budgets& budgets, Parallel parallel);

// The model as each rank of a group has it. `recount` may be null (MakePlan). InvalidArgument: the model cannot be cut
// so; says for which sizes it can.
absl::StatusOr<std::vector<ModelSpec>> RankSpecs(const ModelSpec& spec, int size,
                                                 const std::function<void(ModelSpec&)>& recount);

// Layouts of all ranks by one map, over groups, as one over the devices. Bytes of modules are those of all ranks.
Layout JoinRanks(std::vector<Layout> ranks, absl::Span<const Device> devices, const Budgets& budgets);

// Where a device stands in a plan: its replica, the position of its group among those that a step goes through there,
// and its rank in the group.
struct DevicePlace {
  int replica = 0, stage = 0, rank = 0;
};
// By device; nothing for those that hold no unit.
std::vector<std::optional<DevicePlace>> PlacesOf(const Plan& plan);

// What this version lacks to run groups of several such devices, in words; empty: nothing. Nobody else says so.
std::string MissingForGroups(DeviceKind kind, int size);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_PLAN_RANKS_H_
