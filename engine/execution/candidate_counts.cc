#include "engine/execution/candidate_counts.h"

#include <algorithm>

#include "engine/sampling/sampler.h"

namespace causeway {
namespace {

// An id and a logit take 8 bytes, and an element of the logits may have 2. Candidates are to take half of the bytes of
// a rank's logits at most, so that the plan's activations, which count those, have room for them.
constexpr int64_t kElementsOfCandidate = 8;

}  // namespace

CandidateCounts::CandidateCounts(int64_t slots, int64_t vocab, int ranks)
    : vocab_(vocab), count_max_(ranks > 1 ? vocab / ranks / kElementsOfCandidate : 0), slots_(slots) {}

int64_t CandidateCounts::Of(const StepPlan& plan) {
  int64_t most = 0;
  bool whole = false;
  for (const StepSequence& sequence : plan.sequences) {
    Slot& slot = slots_[sequence.slot];
    if (sequence.start != nullptr) {
      const SequenceStart& start = *sequence.start;
      slot.count = sequence.local.constraint != nullptr ? 0 : CandidatesFor(start.sampling, vocab_);
      slot.min_tokens = start.stop_token_ids.empty() ? 0 : start.min_tokens;
    }
    whole = whole || sequence.all_logits || !sequence.targets.empty();
    if (!sequence.sample) continue;
    whole = whole || slot.count == 0 || sequence.generated < slot.min_tokens;
    most = std::max(most, slot.count);
  }
  return whole || most > count_max_ ? 0 : most;
}

}  // namespace causeway
