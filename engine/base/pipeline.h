// How a pipeline is kept busy. The executor, the scheduler, benchmarks and searches of strategies agree on it here.
#ifndef CAUSEWAY_ENGINE_BASE_PIPELINE_H_
#define CAUSEWAY_ENGINE_BASE_PIPELINE_H_

#include <algorithm>
#include <cstdint>

namespace causeway {

// One more than there are devices that hold units, so that none waits for the scheduler. Another one where devices
// compute beside their threads: the thread starts a step, and then waits for the tokens of the one before.
inline constexpr int StepsInFlight(int devices, bool beside_threads = false) { return devices + 1 + beside_threads; }

// The micro-batches that running sequences are divided into, as far as there are as many: one for each stage, so that
// every stage has a step to work on.
inline constexpr int MicroBatchesOf(int stages, int devices) { return std::min(stages, StepsInFlight(devices)); }

// Stages work at the same time only on different steps. m equal steps leave each of S stages idle for (S - 1) of
// m + S - 1 turns, so prompts are cut into up to this many steps for each stage.
inline constexpr int64_t kPromptStepsOfStage = 4;
// Every step reads a stage's weights once. Steps of fewer rows would take about as long as those of so many.
inline constexpr int64_t kPromptRowsMin = 256;

// How many rows of prompts a step takes where `rows` are left to compute, of which it could take `rows_max`.
inline constexpr int64_t PromptRows(int64_t rows, int64_t rows_max, int stages) {
  if (stages < 2) return std::min(rows, rows_max);
  const int64_t steps =
      std::clamp<int64_t>((rows + kPromptRowsMin - 1) / kPromptRowsMin, 1, kPromptStepsOfStage * stages);
  return std::min((rows + steps - 1) / steps, rows_max);
}

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_BASE_PIPELINE_H_
