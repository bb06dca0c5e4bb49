// One sequence as the scheduler sees it: plain data of the scheduler's own files.
#ifndef CAUSEWAY_ENGINE_SCHEDULE_SEQUENCE_H_
#define CAUSEWAY_ENGINE_SCHEDULE_SEQUENCE_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "engine/base/limits.h"
#include "engine/batch/layer_outputs.h"
#include "engine/cache/block_pool.h"
#include "engine/sampling/params.h"
#include "engine/schedule/rank.h"

namespace causeway {

enum class SequenceState {
  kHeld,     // waits for another sequence's prompt
  kWaiting,  // holds no slot and no blocks
  kRunning,
};

struct Sequence {
  // Every step reads these for every running sequence, so they lie together.
  uint64_t id = 0;
  uint64_t arrival = 0;
  int32_t priority = 0;
  SequenceState state = SequenceState::kWaiting;
  int32_t slot = -1;            // while running
  bool started = false;         // the device has been told who has the slot
  bool prompt_issued = false;   // set once; sequences that wait for the prompt may start
  std::vector<int32_t> tokens;  // known tokens: the prompt and what was generated
  int64_t prompt_tokens = 0;
  int64_t length_max = 0;  // the sequence ends at this tokens.size()
  int64_t unknown = 0;     // tokens after the known ones that steps in flight sample
  int64_t issued = 0;      // leading tokens whose rows are computed or in flight
  int64_t rows = 0;        // rows in the step being planned; 0 between calls
  uint64_t last_step = 0;  // the latest step that has rows of it
  std::vector<int32_t> table;
  PrefixCursor cursor;  // after the registered blocks of the table
  int64_t min_tokens = 0;
  std::vector<int32_t> stop_token_ids;
  std::shared_ptr<TokenConstraint> constraint;
  int64_t scored =
      0;  // leading rows of the prompt whose targets' logprobs are out; all of them where none are asked for
  int64_t cached_tokens = 0;
  bool was_admitted = false;  // stays true when preempted

  absl::Time deadline;
  std::shared_ptr<LayerOutputs> layer_outputs;  // null: not asked for
  uint64_t after = 0;                           // the sequence that it waits for while kHeld
  SamplingParams sampling;

  int64_t length() const { return static_cast<int64_t>(tokens.size()) + unknown; }
  // How many rows have logprobs that are asked for: all of the prompt's but the last one, which samples.
  int64_t scored_max() const { return prompt_tokens - 1; }
  // How many rows could be computed next. With unknown tokens it is the last of them, or none once no token may follow.
  int64_t remaining() const { return length() < length_max ? length() - issued : 0; }
  // Whether its prompt is done, and whatever had to be recomputed: from here on each token takes one row.
  bool decoding() const { return issued >= prompt_tokens && length() - issued <= 1; }
};

struct Outranks {
  bool operator()(const Sequence* a, const Sequence* b) const {
    return Rank{a->priority, a->arrival} < Rank{b->priority, b->arrival};
  }
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_SCHEDULE_SEQUENCE_H_
