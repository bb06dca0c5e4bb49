// How many steps a pipeline has under way. The executor, the scheduler and searches of strategies agree on it here.
#ifndef CAUSEWAY_ENGINE_PLAN_PIPELINE_H_
#define CAUSEWAY_ENGINE_PLAN_PIPELINE_H_

#include <algorithm>

namespace causeway {

// One more than there are devices that hold units, so that none waits for the scheduler.
inline constexpr int StepsInFlight(int devices) { return devices + 1; }

// The micro-batches that running sequences are divided into, as far as there are as many: one for each stage, so that
// every stage has a step to work on.
inline constexpr int MicroBatchesOf(int stages, int devices) { return std::min(stages, StepsInFlight(devices)); }

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_PLAN_PIPELINE_H_
