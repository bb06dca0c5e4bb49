#include "server/commands/bench_run.h"

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/limits.h"
#include "engine/base/pipeline.h"
#include "engine/base/status.h"

namespace causeway {
namespace {

int64_t BlocksOfSequence(const BenchCase& bench) { return BlocksFor(bench.prompt_tokens + bench.generated_tokens); }

// Bytes of one layer's idle experts in a step, on average between the two counts.
int64_t IdleBytes(const ExpertLoad& before, const ExpertLoad& after) {
  const int64_t steps = after.steps - before.steps, experts = static_cast<int64_t>(after.tokens.size());
  if (steps == 0) return 0;
  return (steps * experts - (after.busy - before.busy)) * after.expert_bytes / steps;
}

class Runner {
 public:
  Runner(Executor& executor, const Plan& plan, int64_t vocab_size, const BenchCase& bench)
      : executor_(executor), plan_(plan), bench_(bench) {
    std::mt19937 random(1);
    std::uniform_int_distribution<int32_t> token(0, static_cast<int32_t>(vocab_size - 1));
    prompts_.resize(static_cast<size_t>(bench.batch));
    for (std::vector<int32_t>& prompt : prompts_) {
      prompt.resize(static_cast<size_t>(bench.prompt_tokens));
      for (int32_t& id : prompt) id = token(random);
    }
  }

  absl::StatusOr<BenchTimes> Run() {
    BenchTimes times;
    absl::Time start = absl::Now();
    CAUSEWAY_RETURN_IF_ERROR(Prefill());
    times.prefill_seconds = absl::ToDoubleSeconds(absl::Now() - start);
    const std::map<int, ExpertLoad> before = executor_.Stats().experts;
    start = absl::Now();
    CAUSEWAY_RETURN_IF_ERROR(Decode());
    times.decode_seconds = absl::ToDoubleSeconds(absl::Now() - start);
    for (const auto& [layer, load] : executor_.Stats().experts)
      times.idle_expert_bytes += IdleBytes(before.at(layer), load);
    return times;
  }

 private:
  // Runs all prompts in as few steps as the token budget and the pipeline permit.
  absl::Status Prefill() {
    StepPlan step;
    int64_t left = bench_.batch * bench_.prompt_tokens, step_rows = RowsOfStep(left);
    for (int64_t s = 0; s < bench_.batch; ++s) {
      for (int64_t done = 0; done < bench_.prompt_tokens;) {
        const int64_t rows = std::min(step_rows - step.tokens, bench_.prompt_tokens - done);
        StepSequence sequence = Rows(s, done, rows);
        const std::vector<int32_t>& prompt = prompts_[static_cast<size_t>(s)];
        sequence.tokens.assign(prompt.begin() + done, prompt.begin() + done + rows);
        sequence.sample = done + rows == bench_.prompt_tokens;
        if (done == 0) sequence.start = Start(prompt);
        step.sequences.push_back(std::move(sequence));
        step.tokens += rows;
        step.prefill_tokens += rows;
        done += rows;
        if (step.tokens < step_rows) continue;
        left -= step.tokens;
        step_rows = RowsOfStep(left);
        CAUSEWAY_RETURN_IF_ERROR(Launch(std::exchange(step, {})));
      }
    }
    return WaitForAll();
  }

  int64_t RowsOfStep(int64_t prompt_rows) const {
    return PromptRows(prompt_rows, plan_.options.max_num_batched_tokens, executor_.micro_batches());
  }

  absl::Status Decode() {
    // Stages work at the same time only on different sequences.
    const int64_t groups = std::min<int64_t>(bench_.batch, executor_.micro_batches());
    for (int64_t i = 0; i < bench_.generated_tokens; ++i) {
      for (int64_t g = 0; g < groups; ++g) {
        StepPlan step;
        for (int64_t s = g; s < bench_.batch; s += groups) {
          StepSequence sequence = Rows(s, bench_.prompt_tokens + i, 1);
          sequence.tokens = {kPlaceholderToken};
          sequence.sample = true;
          sequence.generated = i + 1;
          step.sequences.push_back(std::move(sequence));
          ++step.tokens;
        }
        CAUSEWAY_RETURN_IF_ERROR(Launch(std::move(step)));
      }
    }
    return WaitForAll();
  }

  StepSequence Rows(int64_t index, int64_t context, int64_t rows) const {
    StepSequence sequence;
    sequence.sequence = static_cast<uint64_t>(index + 1);
    sequence.slot = static_cast<int32_t>(index);
    sequence.context = context;
    const int64_t blocks = BlocksFor(context + rows), first = index * BlocksOfSequence(bench_);
    for (int64_t b = 0; b < blocks; ++b) sequence.block_table.push_back(static_cast<int32_t>(first + b));
    return sequence;
  }

  static std::shared_ptr<const SequenceStart> Start(const std::vector<int32_t>& prompt) {
    auto start = std::make_shared<SequenceStart>();
    start->sampling.temperature = 0;
    start->tokens = prompt;
    start->prompt_tokens = static_cast<int64_t>(prompt.size());
    return start;
  }

  absl::Status Launch(StepPlan step) {
    if (in_flight_ == executor_.steps_in_flight()) CAUSEWAY_RETURN_IF_ERROR(WaitForOne());
    step.step = ++steps_;
    executor_.Run(std::move(step));
    ++in_flight_;
    return absl::OkStatus();
  }
  absl::Status WaitForOne() {
    --in_flight_;
    return executor_.Wait().status;
  }
  absl::Status WaitForAll() {
    while (in_flight_ > 0) CAUSEWAY_RETURN_IF_ERROR(WaitForOne());
    return absl::OkStatus();
  }

  Executor& executor_;
  const Plan& plan_;
  const BenchCase bench_;
  std::vector<std::vector<int32_t>> prompts_;
  uint64_t steps_ = 0;
  int in_flight_ = 0;
};

}  // namespace

int64_t BenchStepBytes(const ModelSpec& spec, const Plan& plan) {
  int64_t bytes = 0;
  for (const DevicePlan& device : plan.devices) bytes += device.weights;
  // A tied head on another device reads its own copy. Then only rows of the table are read.
  const bool head_reads_table = spec.tied_head && !plan.tied_head_copied;
  const WeightFormat table = spec.tied_head ? spec.head.format : WeightFormat{};
  return head_reads_table
             ? bytes
             : bytes - WeightBytes(table, DTypeBytes(plan.options.dtype), spec.vocab_size, spec.hidden_size);
}

int64_t BenchBlocks(const BenchCase& bench) { return bench.batch * BlocksOfSequence(bench); }

void SizeFor(const std::vector<BenchCase>& cases, PlanOptions* plan) {
  int64_t blocks = 0, length = 0;
  plan->max_num_seqs = 1;
  for (const BenchCase& bench : cases) {
    plan->max_num_seqs = std::max(plan->max_num_seqs, bench.batch);
    length = std::max(length, bench.prompt_tokens + bench.generated_tokens);
    blocks = std::max(blocks, BenchBlocks(bench));
  }
  plan->max_model_len = length;
  plan->max_num_batched_tokens = std::max(plan->max_num_batched_tokens, plan->max_num_seqs);
  plan->kv_cache_tokens = blocks * kBlockTokens;
  plan->kv_cache_bytes = -1;
}

absl::StatusOr<BenchTimes> RunBenchCase(Executor& executor, const Plan& plan, int64_t vocab_size,
                                        const BenchCase& bench) {
  return Runner(executor, plan, vocab_size, bench).Run();
}

}  // namespace causeway
