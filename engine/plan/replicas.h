// Plans for several copies of a model, each on devices of its own.
#ifndef CAUSEWAY_ENGINE_PLAN_REPLICAS_H_
#define CAUSEWAY_ENGINE_PLAN_REPLICAS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "engine/plan/plan.h"

namespace causeway {

// Plans options.parallel.dp replicas on equal runs of the devices, in their order, as MakePlan does. A device map goes
// by the first replica's devices: the others have theirs in the same places. CPU memory for offloaded weights is shared
// out. InvalidArgument: the devices cannot be shared out so. Other errors are MakePlan's, with the replica.
absl::StatusOr<std::vector<Plan>> MakeReplicas(const ModelSpec& spec, const std::vector<Device>& devices,
                                               const PlanOptions& options, const NarrowerSpec& narrower,
                                               const RecountRank& recount);

// All replicas as one plan, to be shown: every device and segment with its replica, and sums over all of them.
Plan JoinReplicas(const std::vector<Plan>& replicas);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_PLAN_REPLICAS_H_
