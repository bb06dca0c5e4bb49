#include "engine/execution/warm_up.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "engine/base/limits.h"
#include "engine/plan/memory.h"

namespace causeway {
namespace {

// A grammar that allows every token.
class AllowAll final : public TokenConstraint {
 public:
  explicit AllowAll(int64_t vocab) : words_((vocab + 31) / 32, ~uint32_t{0}) {}
  bool Soon(int64_t) const override { return true; }
  TokenMask Await(int64_t) override { return {.allowed = words_}; }
  void Chosen(int64_t, int32_t) override {}

 private:
  const std::vector<uint32_t> words_;
};

// `rows` rows of `sequences` sequences that all sample. The last is at the end of the longest context if it has one
// row, and the first is where `scores` is set.
StepPlan StepOf(const Plan& plan, int64_t rows, int64_t sequences, bool scores) {
  const int64_t length_max = plan.options.max_model_len;
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

// One sequence with all that changes logits or chooses a token by them, and where the options leave room for a second
// row, with its prompt's logprobs.
StepPlan SamplingStep(const ModelSpec& spec, const Plan& plan) {
  const int64_t rows = std::min<int64_t>({2, plan.options.max_num_batched_tokens, plan.options.max_model_len});
  StepPlan step = StepOf(plan, rows, 1, /*scores=*/false);
  StepSequence& sequence = step.sequences.front();
  sequence.targets.assign(rows - 1, 0);
  sequence.local.constraint = std::make_shared<AllowAll>(spec.vocab_size);
  auto start = std::make_shared<SequenceStart>(*sequence.start);
  start->tokens = sequence.tokens;  // what penalties are for
  start->min_tokens = 1;
  start->stop_token_ids = {0};
  SamplingParams& sampling = start->sampling;
  sampling.top_k = 1;
  sampling.min_p = 0.1;
  sampling.typical_p = 0.9;
  sampling.repetition_penalty = 2;
  sampling.presence_penalty = sampling.frequency_penalty = 1;
  sampling.logit_bias = {{0, 1.0f}};
  sequence.start = std::move(start);
  return step;
}

}  // namespace

StepPlan WorstStep(const ModelSpec& spec, const Plan& plan) {
  const PlanOptions& options = plan.options;
  const bool scores = std::any_of(plan.devices.begin(), plan.devices.end(), [&](const DevicePlan& device) {
    return !device.units.empty() && HoldsScores(spec, options, device.device.kind);
  });
  const int64_t rows = options.max_num_batched_tokens;
  return StepOf(plan, rows, std::min(options.max_num_seqs, rows), scores);
}

std::vector<StepPlan> WarmUpSteps(const ModelSpec& spec, const Plan& plan) {
  std::vector<StepPlan> steps = {WorstStep(spec, plan)};
  const bool on_gpu = std::any_of(plan.devices.begin(), plan.devices.end(), [](const DevicePlan& device) {
    return !device.units.empty() && !ComputesOnCpu(device.device.kind);
  });
  if (!on_gpu) return steps;
  for (int64_t rows = 1; rows < steps.front().tokens; rows *= 2) {
    steps.push_back(StepOf(plan, rows, std::min(plan.options.max_num_seqs, rows), /*scores=*/false));
  }
  steps.push_back(SamplingStep(spec, plan));
  return steps;
}

}  // namespace causeway
