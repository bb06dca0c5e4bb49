// The rows of a step that tokens come from.
#ifndef CAUSEWAY_ENGINE_EXECUTION_TOKEN_ROWS_H_
#define CAUSEWAY_ENGINE_EXECUTION_TOKEN_ROWS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/batch/step.h"
#include "engine/execution/sampler_state.h"
#include "engine/execution/step_batch.h"

namespace causeway {

class TokenRows {
 public:
  // Takes over the starts of the plan's sequences, and waits for the masks of grammars. Adds to result.tokens one for
  // each sequence that samples; the outcomes of those whose grammar has none for them are final. The plan must outlive
  // this object. Errors are SamplerState::Begin's.
  absl::Status Begin(const StepPlan& plan, const StepBatch& batch, SamplerState& state, StepResult& result);

  // How to sample from each of the selected rows. They borrow from the sampler's state until its next Begin or Sampled.
  const std::vector<SampleRow>& rows() const { return rows_; }

  // Writes to the result what came out for each row, and tells the state. `dtype` is the computation's, for messages.
  void Take(const std::vector<SampleOutput>& outputs, const std::string& dtype, SamplerState& state,
            StepResult& result) const;

 private:
  struct Output {
    int64_t row;
    const StepSequence* sequence;
  };
  std::vector<SampleRow> rows_;
  std::vector<Output> scored_, sampled_;  // rows whose next token is the prompt's, and the others'
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_EXECUTION_TOKEN_ROWS_H_
