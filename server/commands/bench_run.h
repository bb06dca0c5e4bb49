// Measures the executor alone: prefill and decode of one batch of random token ids.
#ifndef CAUSEWAY_SERVER_COMMANDS_BENCH_RUN_H_
#define CAUSEWAY_SERVER_COMMANDS_BENCH_RUN_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/architecture/spec.h"
#include "engine/execution/executor.h"
#include "engine/plan/plan.h"

namespace causeway {

struct BenchCase {
  int64_t batch = 1;
  int64_t prompt_tokens = 128;
  int64_t generated_tokens = 32;
};

struct BenchTimes {
  double prefill_seconds = 0;     // for all prompts of the batch, with the first token of each
  double decode_seconds = 0;      // generated_tokens steps of one row for each sequence
  int64_t idle_expert_bytes = 0;  // weights of experts that a step of the decoding did not read, on average
};

// Drives the executor as the engine's loop does: steps have at most the plan's max_num_batched_tokens, and the next one
// is started while one runs. With several stages, prompts are cut as the scheduler cuts them, and there are as many
// disjoint groups of sequences as micro-batches. The plan's KV cache and slots must hold the case. Sampling is greedy,
// and nothing stops early.
absl::StatusOr<BenchTimes> RunBenchCase(Executor& executor, const Plan& plan, int64_t vocab_size,
                                        const BenchCase& bench);

// Bytes of weights that a step reads whatever its batch, if no expert is idle: all but the embedding's table, unless
// the head is tied to it and reads it.
int64_t BenchStepBytes(const ModelSpec& spec, const Plan& plan);

// How many blocks of the KV cache a case needs.
int64_t BenchBlocks(const BenchCase& bench);

// Sets what a plan's size depends on, so that it holds the largest case and no more.
void SizeFor(const std::vector<BenchCase>& cases, PlanOptions* plan);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_COMMANDS_BENCH_RUN_H_
