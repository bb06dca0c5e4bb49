// Makes one step: who gets how many rows, with which blocks, and who has to give way.
#ifndef CAUSEWAY_ENGINE_SCHEDULE_STEP_PLANNER_H_
#define CAUSEWAY_ENGINE_SCHEDULE_STEP_PLANNER_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/base/clock.h"
#include "engine/batch/step.h"
#include "engine/schedule/scheduler.h"
#include "engine/schedule/sequence_table.h"

namespace causeway {

class StepPlanner {
 public:
  StepPlanner(const SchedulerOptions& options, const Clock* clock, SequenceTable* table);

  // Plans the step of this number and moves its sequences on, as if it were running. Returns nullopt when nothing can
  // be computed now.
  std::optional<StepPlan> Plan(uint64_t step);

  // Answers Scheduler::CanStart.
  bool CanStart(const SequenceCandidate& candidate);

  int64_t prefix_query_tokens() const { return prefix_query_tokens_; }
  int64_t prefix_hit_tokens() const { return prefix_hit_tokens_; }

 private:
  // Fills decodes_ (in the order in which they are tried) and prompts_ (by rank) with the running sequences that can
  // have rows.
  void Collect();
  // Rows of prompts that this step and the next ones could take.
  int64_t PromptRowsLeft() const;
  void PlanPrompts();
  void AdmitWaiting();
  bool TryAdmit(Sequence& sequence);
  // Whether `blocks` can be taken on top of what the running sequences lack, and some for these to grow.
  bool HasRoom(int64_t blocks) const;
  // Gives unused budget to prompts that were held to a share of it.
  void TopUp();
  // How many of the `wanted` rows a prompt takes of the budget; `others` says whether others want some, too.
  int64_t Share(int64_t wanted, bool others) const;
  // How many of `rows` more rows of a prompt the step has logits for, where its logprobs are asked for.
  int64_t WithLogits(const Sequence& sequence, int64_t rows) const;
  // Gives up to `rows` more rows, as far as blocks reach. Where they reach for none and `may_preempt` is set, it
  // preempts the lowest ranked sequences that rank below this one. Returns the rows given.
  int64_t Give(Sequence& sequence, int64_t rows, bool may_preempt);
  void Preempt(Sequence& victim);
  StepPlan Emit(uint64_t step);
  void EmitSequence(Sequence& sequence, uint64_t step, StepSequence& out);

  const SchedulerOptions options_;
  const Clock* const clock_;
  SequenceTable& table_;

  // These belong to the step being planned:
  int64_t budget_ = 0;       // rows left
  int64_t decode_part_ = 0;  // rows for sequences that decode
  // Rows of logits beyond one for each running sequence. A step has at most max_num_seqs of them, and the plan of the
  // devices' memory relies on that.
  int64_t logits_ = 0;
  bool preempted_ = false;
  std::vector<Sequence*> decodes_, prompts_;
  std::vector<Sequence*> planned_;  // in the plan's order; preempted sequences have no rows

  // The sequence that was refused last, so that its prefix is not looked up again in every step.
  struct Refusal {
    uint64_t sequence = 0;
    int64_t available = 0;  // blocks that were available
    uint64_t until = 0;     // the step at which it is tried again
  };
  bool Holds(const Refusal& refusal, uint64_t sequence) const;
  bool Refuse(Refusal& refusal, uint64_t sequence);  // returns false
  Refusal waiting_refused_, new_refused_;            // for sequences that wait here, and for CanStart
  uint64_t step_ = 0;

  std::vector<int32_t> found_;
  int64_t prefix_query_tokens_ = 0, prefix_hit_tokens_ = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_SCHEDULE_STEP_PLANNER_H_
