#include "engine/execution/warm_up.h"

#include <algorithm>
#include <memory>

#include "engine/base/limits.h"
#include "engine/plan/memory.h"

namespace causeway {

StepPlan WorstStep(const ModelSpec& spec, const Plan& plan) {
  const PlanOptions& options = plan.options;
  const bool scores = std::any_of(plan.devices.begin(), plan.devices.end(), [&](const DevicePlan& device) {
    return !device.units.empty() && HoldsScores(spec, options, device.device.kind);
  });
  const int64_t length_max = options.max_model_len;
  const int64_t rows = options.max_num_batched_tokens;
  const int64_t sequences = std::min(options.max_num_seqs, rows);
  StepPlan step;
  int64_t extra = rows - sequences;  // rows beyond one for each sequence
  int64_t next_block = 0;
  for (int64_t i = 0; i < sequences; ++i) {
    StepSequence sequence;
    sequence.sequence = i;
    sequence.slot = i;
    const int64_t count = 1 + std::min(extra, length_max - 1);
    extra -= count - 1;
    sequence.tokens.assign(count, 0);
    const bool longest = (i == 0 && scores) || (i + 1 == sequences && count == 1);
    sequence.context = longest ? length_max - count : std::min(length_max - count, kBlockTokens);
    const int64_t blocks = BlocksFor(sequence.context + count);
    for (int64_t b = 0; b < blocks; ++b) sequence.block_table.push_back(next_block++ % plan.kv_blocks);
    sequence.sample = true;
    auto start = std::make_shared<SequenceStart>();
    start->sampling.temperature = 1;
    start->sampling.top_p = 0.9;  // the ways through the sampler that hold the most
    start->sampling.logprobs = true;
    start->sampling.top_logprobs = 1;
    sequence.start = std::move(start);
    step.sequences.push_back(std::move(sequence));
    step.tokens += count;
  }
  return step;
}

}  // namespace causeway
