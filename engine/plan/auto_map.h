// The `auto` policy over a model: its units as items of auto_policy.h, and where a tied head goes.
#ifndef CAUSEWAY_ENGINE_PLAN_AUTO_MAP_H_
#define CAUSEWAY_ENGINE_PLAN_AUTO_MAP_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "engine/plan/auto_policy.h"
#include "engine/plan/plan.h"
#include "engine/plan/unit_table.h"

namespace causeway {

struct KvDemand {
  int64_t blocks_least = 0;   // one sequence of max_model_len, or what was asked for
  int64_t blocks_wanted = 0;  // at most
};

struct AutoInput {
  const ModelSpec& spec;
  const ModuleIndex& index;
  const UnitTable& units;
  absl::Span<const Device> devices;  // filled by their ids, ascending
  std::vector<StageDevice> stages;   // their budgets; at least one is above 0
  const PlanOptions& options;        // defaults filled in
  KvDemand kv;
  bool weights_only = false;  // the KV cache, activations and hidden states cost nothing
};

// Places every part, whether or not it fits: what is fullest is then as little over its budget as can be.
//
// A tied head goes to the last stage with a copy of the weight, or comes back to the embedding's device: back only
// where that lowers the fullest device (or leaves room for more KV cache), since it costs each step another hop.
PartMap AutoMap(const AutoInput& input);

// The KV cache's blocks in AutoMap's result, up to kv.blocks_wanted, in a fraction of the time; -1: it does not keep
// every budget with kv.blocks_least.
int64_t AutoBlocks(const AutoInput& input);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_PLAN_AUTO_MAP_H_
