// The field's device maps, balanced, balanced_low_0 and sequential, to the module: the maps that transformers 5.23
// makes of the same modules and budgets. The field counts weights only; to serve, what else a device must hold needs
// room as well.
#ifndef CAUSEWAY_ENGINE_PLAN_FIELD_POLICY_H_
#define CAUSEWAY_ENGINE_PLAN_FIELD_POLICY_H_

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/plan/module_sizes.h"

namespace causeway {

enum class FieldStrategy { kBalanced, kBalancedLow0, kSequential };

// The one that a device_map names; nothing: it is none of the field's.
std::optional<FieldStrategy> FieldStrategyNamed(absl::string_view device_map);

struct FieldBudget {
  std::string key;  // "0", "1", ..., "cpu"
  int64_t bytes = 0;
  // What weights and the KV cache that comes with them may take together, the rest of the budget being for a step's
  // needs.
  int64_t with_kv = std::numeric_limits<int64_t>::max();
};

// The budgets that filling goes by: those of `gpus` (ids ascending, distinct), lowered so that the weights spread
// evenly. InvalidArgument: balanced_low_0 over several GPUs without one of id 0.
absl::StatusOr<std::vector<int64_t>> FieldCaps(const ModuleIndex& index, const std::vector<FieldBudget>& gpus,
                                               FieldStrategy strategy);

// Fills `devices` in order (GPUs, then "cpu" if it has a budget), each up to its bytes; what fits nowhere goes to
// "disk". `kv_bytes`, by node of the index: the KV cache that a module brings; empty: none, as the field has it.
PartMap FieldFill(const ModuleIndex& index, const std::vector<FieldBudget>& devices,
                  const std::vector<int64_t>& kv_bytes = {});

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_PLAN_FIELD_POLICY_H_
