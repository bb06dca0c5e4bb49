// From a map of parts to bytes on devices: what each holds, how much KV cache fits beside it, and whether it all fits.
#ifndef CAUSEWAY_ENGINE_PLAN_LAYOUT_H_
#define CAUSEWAY_ENGINE_PLAN_LAYOUT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/plan/auto_map.h"
#include "engine/plan/budgets.h"
#include "engine/plan/offload.h"
#include "engine/plan/plan.h"
#include "engine/plan/unit_table.h"

namespace causeway {

struct LayoutInput {
  const ModelSpec& spec;
  const ModuleIndex& index;
  const UnitTable& units;
  const PieceTable& pieces;
  absl::Span<const Device> devices;
  const Budgets& budgets;
  const PlanOptions& options;  // defaults filled in
  KvDemand kv;
  bool weights_only = false;  // the field's view: no KV cache, no activations
  int64_t small_weights = 0;  // SmallWeightBytes
  bool names = true;          // false: bytes alone, without device_map, modules and what each device has offloaded

  // What a device takes as soon as it computes anything.
  int64_t reserve(size_t device) const {
    return ReserveBytes(devices[device]) + (devices[device].kind == DeviceKind::kCuda ? small_weights : 0);
  }
};

struct Misfit {
  int device = 0;  // index
  int64_t short_bytes = 0;
};

struct Layout {
  Plan plan;
  std::vector<Misfit>
      misfits;  // devices that cannot hold what the map gives them with kv.blocks_least; plan.kv_blocks is then that
  std::vector<int> unplaced;   // parts that the map leaves to the disk: they fit nowhere
  std::vector<int> offloaded;  // parts that the map has in CPU memory, which has no budget beside the devices
  int64_t tiers_short = 0;     // bytes for which the CPU's memory has no room, and there is no disk
};

// InvalidArgument/Unimplemented: a map that divides an execution unit over devices.
absl::StatusOr<Layout> MakeLayout(const LayoutInput& input, const PartMap& map);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_PLAN_LAYOUT_H_
