// What the sampler keeps of each sequence between steps.
#ifndef CAUSEWAY_ENGINE_EXECUTION_SAMPLER_STATE_H_
#define CAUSEWAY_ENGINE_EXECUTION_SAMPLER_STATE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "engine/batch/step.h"
#include "engine/sampling/sampler.h"

namespace causeway {

// By slot. Used by the head's device worker, step after step in order; last_tokens is read by the embeddings' one, for
// slots whose step is done.
class SamplerState {
 public:
  SamplerState(int64_t slots, int64_t vocab) : vocab_(vocab), slots_(slots), last_tokens_(slots, 0) {}

  // Before anything else for each sequence of a step: takes over its start, if it brings one. Internal: it samples, and
  // its slot has never seen a start.
  absl::Status Begin(const StepSequence& sequence);
  // How to sample for it, or why there is nothing to sample: Await of its constraint says so, and waits. The row
  // borrows from this object until the next Begin or Sampled.
  SampleRow Row(const StepSequence& sequence, TokenMask* mask) const;
  // How to score the token behind a row of its prompt. Borrows as Row does.
  SampleRow TargetRow(const StepSequence& sequence, int32_t target) const;
  // Of no effect where another sequence has the slot by now.
  void Sampled(const StepSequence& sequence, int32_t token);
  // Whether how to sample for it depends on tokens that were sampled for it before. It may be asked before Begin.
  bool FollowsTokens(const StepSequence& sequence) const;
  int64_t slots() const { return static_cast<int64_t>(slots_.size()); }
  // Forgets every sequence.
  void Clear();

  const std::vector<int32_t>& last_tokens() const { return last_tokens_; }

 private:
  struct Slot {
    uint64_t sequence = 0;
    std::shared_ptr<const SequenceStart> start;  // shared with the scheduler's sequence
    std::shared_ptr<TokenConstraint> constraint;
    SamplingParams scoring;                             // of its prompt's rows
    std::vector<int32_t> prompt_counts, output_counts;  // [vocab] where the parameters need counts, else empty
  };

  const int64_t vocab_;
  std::vector<Slot> slots_;
  std::vector<int32_t> last_tokens_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_EXECUTION_SAMPLER_STATE_H_
