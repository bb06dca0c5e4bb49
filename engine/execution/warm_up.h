// The step that needs the most memory.
#ifndef CAUSEWAY_ENGINE_EXECUTION_WARM_UP_H_
#define CAUSEWAY_ENGINE_EXECUTION_WARM_UP_H_

#include "engine/batch/step.h"
#include "engine/plan/plan.h"

namespace causeway {

// max_num_batched_tokens rows, max_num_seqs sequences that all sample: long prompt chunks, and one row each for the
// rest, one of them at the end of the longest context. Prompt chunks have little context behind them: what attention
// computes for them grows with it, what it holds does not, and a start must not take minutes. Where it does hold what
// it computes, as the reference's scores, the first chunk ends the longest context. Blocks are whichever come, some
// several times: what is in the cache afterwards means nothing.
StepPlan WorstStep(const ModelSpec& spec, const Plan& plan);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_EXECUTION_WARM_UP_H_
