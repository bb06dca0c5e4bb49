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
  double prefill_seconds = 0;     // all prompts of the batch, the first token of each included
  double decode_seconds = 0;      // generated_tokens steps of one row for each sequence
  int64_t idle_expert_bytes = 0;  // weights of experts that a step of the decoding left unread, on average
};

// Drives the executor as the engine's loop does: steps of at most the plan's max_num_batched_tokens, the next one
// started while one runs; with several stages, as many disjoint groups of sequences as there are stages. The plan's KV
// cache and slots must hold the case. Sampling is greedy and nothing stops.
absl::StatusOr<BenchTimes> RunBenchCase(Executor& executor, const Plan& plan, int64_t vocab_size,
                                        const BenchCase& bench);

// Bytes of weights that a step reads whatever its batch, were no expert idle: all but the embedding's table, unless the
// head is tied to it and reads it.
int64_t BenchStepBytes(const ModelSpec& spec, const Plan& plan);

// Blocks of the KV cache that a case needs.
int64_t BenchBlocks(const BenchCase& bench);

// Sets what a plan's size depends on: it holds the largest case and no more.
void SizeFor(const std::vector<BenchCase>& cases, PlanOptions* plan);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_COMMANDS_BENCH_RUN_H_
