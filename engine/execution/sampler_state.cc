#include "engine/execution/sampler_state.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace causeway {
namespace {

// Whether any token is left of those that a grammar allows.
bool LeavesAny(absl::Span<const uint32_t> allowed, const std::vector<int32_t>& masked) {
  std::vector<uint32_t> left(allowed.begin(), allowed.end());
  for (const int32_t token : masked) {
    if (token >= 0 && static_cast<size_t>(token) < left.size() * 32) left[token / 32] &= ~(1u << (token % 32));
  }
  return std::any_of(left.begin(), left.end(), [](uint32_t word) { return word != 0; });
}

}  // namespace

absl::Status SamplerState::Begin(const StepSequence& sequence) {
  Slot& slot = slots_[sequence.slot];
  if (sequence.start != nullptr) {
    slot.sequence = sequence.sequence;
    slot.start = sequence.start;
    slot.constraint = sequence.local.constraint;
    slot.scoring.temperature = 0;
    slot.scoring.logprobs = true;
    slot.scoring.top_logprobs = slot.start->sampling.top_logprobs;
    slot.prompt_counts = {};  // given back: most requests need none
    slot.output_counts = {};
    if (slot.start->sampling.needs_counts()) {
      slot.prompt_counts.resize(vocab_);
      slot.output_counts.resize(vocab_);
      const std::vector<int32_t>& tokens = slot.start->tokens;
      for (size_t i = 0; i < tokens.size(); ++i) {
        if (tokens[i] < 0 || tokens[i] >= vocab_) continue;
        ++(static_cast<int64_t>(i) < slot.start->prompt_tokens ? slot.prompt_counts : slot.output_counts)[tokens[i]];
      }
    }
  }
  if ((sequence.sample || !sequence.targets.empty()) && slot.start == nullptr) {
    return absl::InternalError(absl::StrCat("step plan, sequence ", sequence.sequence, ": slot ", sequence.slot,
                                            " has no sampling parameters"));
  }
  return absl::OkStatus();
}

SampleRow SamplerState::TargetRow(const StepSequence& sequence, int32_t target) const {
  SampleRow row;
  row.params = &slots_[sequence.slot].scoring;
  row.given = target;
  return row;
}

SampleRow SamplerState::Row(const StepSequence& sequence, TokenMask* mask) const {
  const Slot& slot = slots_[sequence.slot];
  SampleRow row;
  row.params = &slot.start->sampling;
  if (sequence.generated < slot.start->min_tokens) row.masked = &slot.start->stop_token_ids;
  if (!slot.output_counts.empty()) {
    row.prompt_counts = &slot.prompt_counts;
    row.output_counts = &slot.output_counts;
  }
  if (slot.constraint != nullptr) {
    *mask = slot.constraint->Await(sequence.generated);
    row.allowed = mask->allowed;
    // The grammar goes before min_tokens.
    if (row.masked != nullptr && !row.allowed.empty() && !LeavesAny(row.allowed, *row.masked)) row.masked = nullptr;
  }
  row.uniform = UniformAt(row.params->seed, sequence.generated);
  return row;
}

bool SamplerState::FollowsTokens(const StepSequence& sequence) const {
  const Slot& slot = slots_[sequence.slot];
  const SequenceStart* start = sequence.start != nullptr ? sequence.start.get() : slot.start.get();
  const bool constrained = (sequence.start != nullptr ? sequence.local.constraint : slot.constraint) != nullptr;
  return constrained || (start != nullptr && start->sampling.needs_counts());
}

void SamplerState::Sampled(const StepSequence& sequence, int32_t token) {
  Slot& slot = slots_[sequence.slot];
  if (slot.sequence != sequence.sequence) return;
  last_tokens_[sequence.slot] = token;
  if (!slot.output_counts.empty()) ++slot.output_counts[token];
  if (slot.constraint != nullptr) slot.constraint->Chosen(sequence.generated, token);
}

void SamplerState::Clear() {
  std::fill(slots_.begin(), slots_.end(), Slot());
  std::fill(last_tokens_.begin(), last_tokens_.end(), 0);
}

}  // namespace causeway
