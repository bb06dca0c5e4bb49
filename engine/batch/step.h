// What passes between the scheduler and the executor: one ragged batch, and its result. All but SequenceLocal is plain
// data and may cross processes.
#ifndef CAUSEWAY_ENGINE_BATCH_STEP_H_
#define CAUSEWAY_ENGINE_BATCH_STEP_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "engine/batch/layer_outputs.h"
#include "engine/sampling/constraint.h"
#include "engine/sampling/params.h"

namespace causeway {

// Stands for the token that an earlier step, still running, samples for the same slot.
inline constexpr int32_t kPlaceholderToken = -1;

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;
};

// What the sampler must know of a sequence beyond the step. It is sent when a sequence gets its slot, and again after a
// preemption. It is immutable, and shared by the scheduler's sequence and the step plans that carry it.
struct SequenceStart {
  SamplingParams sampling;
  int64_t min_tokens = 0;
  std::vector<int32_t> stop_token_ids;  // masked while fewer than min_tokens are generated
  std::vector<int32_t> tokens;          // prompt and everything generated so far, for penalties
  int64_t prompt_tokens = 0;            // how many of `tokens` are the prompt
};

// The part of a sequence that stays in the process of the scheduler; the rest of a step is data.
struct SequenceLocal {
  // Sent with the start; it holds for all the sequence's life. Null allows any token.
  std::shared_ptr<TokenConstraint> constraint;
  std::shared_ptr<LayerOutputs> layer_outputs;  // gathers the prompt's layer outputs; null where nobody asked
};

// The rows of one sequence in a step: tokens [context, context + tokens.size()).
struct StepSequence {
  uint64_t sequence = 0;  // unique for the life of the engine
  int32_t slot = 0;       // [0, max_num_seqs): where the device keeps this sequence's sampler state and last token
  std::vector<int32_t> tokens;       // only the last may be kPlaceholderToken
  int64_t context = 0;               // tokens already in the KV cache
  std::vector<int32_t> block_table;  // blocks that cover [0, context + tokens.size())
  bool sample = false;               // the last row samples a token; false inside a prompt
  // Set where the prompt's logprobs are asked for: the tokens that follow the last rows, without the one to be sampled.
  std::vector<int32_t> targets;
  bool all_logits = false;  // the result carries the logits of every row; for evaluation and tests only
  int64_t generated = 0;    // index of the token to be sampled among the generated ones; it is the random counter
  std::shared_ptr<const SequenceStart> start;  // set on the sequence's first step in its slot, else null
  SequenceLocal local;
};

struct StepPlan {
  uint64_t step = 0;  // counts up from 1
  std::vector<StepSequence> sequences;
  int64_t tokens = 0;          // sum of the sequences' rows
  int64_t prefill_tokens = 0;  // how many of `tokens` belong to sequences that still read their prompt (or recompute)
};

struct SampledToken {
  enum class Outcome {
    kToken,
    kComplete,   // the grammar allows no further token: there is none, and the sequence has ended
    kFailed,     // the grammar cannot be followed further, `status` says why
    kNotFinite,  // the row's logits have NaN or infinity, `status` says so: what the sequence computed is worth nothing
  };
  uint64_t sequence = 0;
  Outcome outcome = Outcome::kToken;
  absl::Status status;
  int32_t token = 0;
  float logprob = 0;                       // under the raw distribution; set when asked for
  std::vector<TokenLogprob> top_logprobs;  // most likely first
};

struct StepResult {
  uint64_t step = 0;
  int64_t rows = 0, prefill_rows = 0, sequences = 0;  // the plan's tokens, prefill_tokens and number of sequences
  absl::Status status;                                // an error ends every sequence of the step
  absl::Status device_failure;       // not OK: a device has failed for good, and no later step can be computed
  std::vector<SampledToken> tokens;  // one for each sequence with `sample`, in the plan's order
  std::vector<SampledToken> prompt;  // one with its logprob for each of the sequences' targets, in the plan's order
  std::vector<std::vector<float>> logits;  // [rows * vocab] for each sequence with all_logits, in the plan's order
  double seconds = 0;                      // on its devices, from the first stage's start to the last stage's end
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_BATCH_STEP_H_
