// What to say when a model does not fit: what is short, and which one change would make it fit.
#ifndef CAUSEWAY_ENGINE_PLAN_REMEDIES_H_
#define CAUSEWAY_ENGINE_PLAN_REMEDIES_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/plan/budgets.h"
#include "engine/plan/layout.h"
#include "engine/plan/plan.h"

namespace causeway {

bool Fits(const Layout& layout);

// The modules concerned, the bytes short, and what they are made of. For a layout that does not fit.
std::string DescribeMisfit(const ModelSpec& spec, const ModuleIndex& index, const Layout& layout);

struct Attempt {
  const ModelSpec* spec;
  std::vector<Device> devices;
  Budgets budgets;
  PlanOptions options;  // defaults filled in
};

// A sentence of single changes to `attempt`, each tried as it is written and found to make `fits` true: fewer tokens,
// smaller steps, fewer sequences, narrower weights (where `narrower` is there; quantized no further than it takes) or a
// narrower KV cache, another policy, larger budgets (larger devices, where those at hand have no more memory), other
// devices of the catalogue, more devices. Each is found by halving: about the least that does, where less never does if
// more does not. Calls `fits` up to a hundred times.
std::string FindRemedies(const Attempt& attempt, const NarrowerSpec& narrower,
                         const std::function<bool(const Attempt&)>& fits);

// A value in [least, most] for which `works`, the largest where all smaller ones work too; 0: not even `least` does.
int64_t LargestThat(int64_t least, int64_t most, const std::function<bool(int64_t)>& works);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_PLAN_REMEDIES_H_
