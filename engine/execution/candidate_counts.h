// How much of the logits the ranks of a group exchange in a step.
#ifndef CAUSEWAY_ENGINE_EXECUTION_CANDIDATE_COUNTS_H_
#define CAUSEWAY_ENGINE_EXECUTION_CANDIDATE_COUNTS_H_

#include <cstdint>
#include <vector>

#include "engine/batch/step.h"

namespace causeway {

// One thread owns it, and shows it every step in order.
class CandidateCounts {
 public:
  // `ranks` share the vocabulary.
  CandidateCounts(int64_t slots, int64_t vocab, int ranks);

  // How many of each row's likeliest tokens every rank has to tell, so that all of the step's tokens are chosen as from
  // whole rows. 0: the step needs whole rows, or there is one rank.
  int64_t Of(const StepPlan& plan);

 private:
  struct Slot {
    int64_t count = 0;       // of the sequence that has it; 0: whole rows
    int64_t min_tokens = 0;  // before so many its stop ids are masked, which takes whole rows
  };

  const int64_t vocab_;
  const int64_t count_max_;  // more would be as many bytes as the logits
  std::vector<Slot> slots_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_EXECUTION_CANDIDATE_COUNTS_H_
