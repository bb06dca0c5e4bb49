// The steps that are run before the first request.
#ifndef CAUSEWAY_ENGINE_EXECUTION_WARM_UP_H_
#define CAUSEWAY_ENGINE_EXECUTION_WARM_UP_H_

#include <vector>

#include "engine/batch/step.h"
#include "engine/plan/plan.h"

namespace causeway {

// The step that needs the most memory: max_num_batched_tokens rows, max_num_seqs sequences that all sample. Long prompt
// chunks, and one row each for the rest, one of them at the end of the longest context. Prompt chunks have little
// context behind them: what attention computes for them grows with it, what it holds does not, and a start must not
// take minutes. Where it does hold what it computes, as the reference's scores, the first chunk ends the longest
// context. Blocks are whichever come, some several times: what is in the cache afterwards means nothing.
StepPlan WorstStep(const ModelSpec& spec, const Plan& plan);

// WorstStep, and where a GPU computes others behind it, which together launch each kernel that serving launches. CUDA
// loads a kernel when it is first launched, into memory that no plan counts step by step, and cuBLAS chooses its
// kernels by the number of rows. So there are steps of one row, two, four and so on, the first of them at the end of
// the longest context, and one that goes through all of the sampler. Each begins with empty slots.
std::vector<StepPlan> WarmUpSteps(const ModelSpec& spec, const Plan& plan);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_EXECUTION_WARM_UP_H_
