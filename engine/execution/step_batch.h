// A StepPlan as tensors.
#ifndef CAUSEWAY_ENGINE_EXECUTION_STEP_BATCH_H_
#define CAUSEWAY_ENGINE_EXECUTION_STEP_BATCH_H_

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "engine/architecture/shard.h"
#include "engine/batch/step.h"
#include "engine/device/device_runtime.h"
#include "engine/ops/ops.h"

namespace causeway {

// What step plans are held against, so that a wrong one is an error and not a wild read.
struct BatchLimits {
  int64_t vocab = 0, slots = 0, blocks = 0, positions = 0;
};

// One ragged batch, on the host: sequence after sequence, row after row.
struct StepBatch {
  struct Placeholder {
    int64_t row = 0;
    int32_t slot = 0;
  };
  // Where a sequence's rows are among those selected for the head.
  struct Selected {
    int64_t first = 0, count = 0;  // all_logits: every row; else those of the targets, then the one that samples
  };

  at::Tensor ids;   // int64 [tokens]; 0 at placeholders
  at::Tensor rows;  // int64 [selected]; undefined when every row is selected
  AttentionBatch attention;
  std::vector<Placeholder> placeholders;
  std::vector<Selected> selected;  // of each sequence
  int64_t tokens = 0, selected_rows = 0;

  // The ids with their placeholders filled; last_tokens [slots].
  at::Tensor FilledIds(const std::vector<int32_t>& last_tokens) const;
};

// Ids as a rank that has a share of the words looks them up.
struct LocalIds {
  at::Tensor ids;      // int64 [tokens], from 0 on; 0 where another rank has the word
  at::Tensor foreign;  // int64 [n]: those rows; undefined: none
};
LocalIds IdsWithin(const at::Tensor& ids, ShareRange words);

// Internal names what is wrong with the plan.
absl::StatusOr<StepBatch> MakeStepBatch(const StepPlan& plan, const BatchLimits& limits);

// Rows of a step that take their ids from slots' last tokens, or give them tokens.
struct TokenPlaces {
  at::Tensor rows, slots;  // int64 [n] each; undefined: none
};
TokenPlaces PlaceholdersOf(const StepBatch& batch);                   // rows of ids
TokenPlaces SamplesOf(const StepPlan& plan, const StepBatch& batch);  // rows of logits

// A batch's tensors on a device.
struct DeviceBatch {
  LocalIds ids;
  at::Tensor rows;
  AttentionBatch attention;
  TokenPlaces placeholders, samples;
};
// `host` for work on the runtime's device, in one upload, with the ids that the rank looks up, if it does.
DeviceBatch Upload(const StepBatch& host, const LocalIds& ids, const TokenPlaces& placeholders,
                   const TokenPlaces& samples, DeviceRuntime& runtime);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_EXECUTION_STEP_BATCH_H_
