// Decides what every step computes: admission, the token budget, chunked prefill, block tables, preemption, and when a
// sequence has ended. It has no torch and knows no executor: a StepPlan goes out, a StepResult comes in.
#ifndef CAUSEWAY_ENGINE_SCHEDULE_SCHEDULER_H_
#define CAUSEWAY_ENGINE_SCHEDULE_SCHEDULER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/base/clock.h"
#include "engine/batch/finish.h"
#include "engine/batch/step.h"
#include "engine/sampling/params.h"
#include "engine/schedule/stats.h"

namespace causeway {

struct SchedulerOptions {
  int64_t num_blocks = 0;                 // blocks of kBlockTokens tokens
  int64_t max_num_seqs = 64;              // sequences that run at once; also the number of slots
  int64_t max_num_batched_tokens = 2048;  // rows of a step, at least max_num_seqs
  int64_t max_model_len = 0;              // prompt and generated tokens of one sequence
  // Parts that running sequences are divided into, each a step of its own, so that every stage of a pipeline has one.
  // With more than one, a sequence whose next token is in flight waits for it.
  int micro_batches = 1;
  int steps_in_flight = 2;  // Executor::steps_in_flight(), at least micro_batches
  bool prefix_cache = true;
};
// An InvalidArgument names the option, its value and its range.
absl::Status Validate(const SchedulerOptions& options);

struct SequenceRequest {
  uint64_t id = 0;              // an id never used before in this engine
  std::vector<int32_t> prompt;  // at least one token
  SamplingParams sampling;
  StopParams stop;       // the engine looks for `strings`, and calls Finish when one appears
  int32_t priority = 0;  // higher first, then in order of arrival: admitted first, preempted last
  absl::Time deadline = absl::InfiniteFuture();
  std::string cache_salt;                       // prefixes are shared only between sequences of equal salt
  std::shared_ptr<TokenConstraint> constraint;  // null allows any token
  std::shared_ptr<LayerOutputs>
      layer_outputs;  // gathers the prompt's outputs, none of which comes from the cache; null: not asked for
  // The other choices of an n > 1 request wait until this sequence's prompt is computed, to share its blocks. They
  // don't wait for 0, nor for a sequence that has ended or was never added.
  uint64_t after = 0;
};

// A sequence that might be added: the part of a SequenceRequest that tells whether there is room for it.
struct SequenceCandidate {
  uint64_t id = 0;  // the id that it will have
  int32_t priority = 0;
  absl::Span<const int32_t> prompt;
  absl::string_view cache_salt;
  bool computes_all = false;  // its prompt is computed whatever the cache has, for its logprobs or its layers' outputs
};

// What happened to a sequence. Every sequence has exactly one event with `finished`, its last one.
struct SequenceEvent {
  uint64_t sequence = 0;
  // The next of the prompt's tokens, with their logprobs, where they are asked for. All but the first come, each once
  // and in order.
  std::vector<SampledToken> prompt;
  std::optional<SampledToken> token;  // the new token; a stop token is reported too, with `finished` kStop
  std::optional<FinishReason> finished;
  std::optional<int32_t> stop_token;  // the stop id that ended it
  absl::Status status;                // why the step or the grammar failed, when finished is kError
  int64_t cached_tokens = 0;          // how much of the prompt came from the prefix cache when it was first admitted
};

// One thread owns it. The engine's loop calls Expire; Next and Executor::Run while there is a step; Executor::Wait;
// Apply.
//
// Blocks and slots that a sequence gives back are handed out again at once, though steps in flight may still write to
// them. Every stage runs the steps in the order of their numbers. So what a later step writes there is written after,
// and only still later steps read it. For the same reason a full block can be shared as soon as the step that fills it
// is planned.
class Scheduler {
 public:
  // CHECKs Validate(options). `clock` must outlive the scheduler.
  Scheduler(const SchedulerOptions& options, const Clock* clock);
  ~Scheduler();

  // Adds a sequence. InvalidArgument: an empty prompt, or one that leaves no room for a token in the context or the KV
  // cache. AlreadyExists: the id is in use. Where the KV cache is smaller than the context, it takes the context's
  // place: kLength ends the sequence. The caller bounds how many wait.
  absl::Status Add(SequenceRequest request);

  // Whether the sequence would be admitted to one of the next steps if it were added now. Then a slot and blocks are
  // left for it after those that wait already and rank before it.
  bool CanStart(const SequenceCandidate& candidate);

  // Ends a sequence (cancelled, a stop string, ...) and frees its blocks; its tokens in flight will be discarded.
  // Returns nullopt when there is no such sequence (it has ended).
  std::optional<SequenceEvent> Finish(uint64_t id, FinishReason why);

  // Ends the sequences whose deadlines have passed (kDeadline).
  std::vector<SequenceEvent> Expire();
  // Returns the earliest deadline, InfiniteFuture when there is none.
  absl::Time NextDeadline() const;

  // Returns the next step, or nullopt when nothing can be planned before the next Apply or Add. Every plan must be run,
  // in order.
  std::optional<StepPlan> Next();

  // Takes the result of the oldest unapplied step. Ends sequences by stop ids, max_tokens and the context. A failed
  // step ends its sequences, and those that share what it was to compute, with kError. CHECKs that the result belongs
  // to the step.
  std::vector<SequenceEvent> Apply(const StepResult& result);

  bool idle() const;  // no sequence is running or waiting (discarded steps may still be in flight)
  SchedulerStats Stats() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_SCHEDULE_SCHEDULER_H_
