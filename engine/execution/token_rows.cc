#include "engine/execution/token_rows.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status.h"

namespace causeway {
namespace {

absl::Status NotFinite(const std::string& dtype) {
  return absl::InternalError(absl::StrCat(
      "the model's logits hold NaN or infinite numbers: its weights do (the log of the start names them), ",
      "or what is computed from them exceeds ", dtype,
      dtype == "Half" ? ", whose largest number is 65504: dtype bf16 or fp32 (--dtype) holds larger ones" : ""));
}

const SamplingParams& Greedy() {
  static const SamplingParams* const greedy = new SamplingParams{.temperature = 0};
  return *greedy;
}

}  // namespace

absl::Status TokenRows::Begin(const StepPlan& plan, const StepBatch& batch, SamplerState& state, StepResult& result) {
  // A row that nothing is to be sampled from (its grammar has ended) stays in the call as a given token, which costs
  // nothing: to leave it out would take a copy of all the others, for which the plan has no room.
  SampleRow unused;
  unused.params = &Greedy();
  unused.given = 0;
  rows_.assign(batch.selected_rows, unused);
  for (size_t i = 0; i < plan.sequences.size(); ++i) {
    const StepSequence& sequence = plan.sequences[i];
    CAUSEWAY_RETURN_IF_ERROR(state.Begin(sequence));
    const StepBatch::Selected& selected = batch.selected[i];
    int64_t row = selected.first + selected.count - sequence.sample - static_cast<int64_t>(sequence.targets.size());
    for (const int32_t target : sequence.targets) {
      rows_[row] = state.TargetRow(sequence, target);
      scored_.push_back({row++, &sequence});
    }
    if (!sequence.sample) continue;
    TokenMask mask;
    const SampleRow wanted = state.Row(sequence, &mask);
    SampledToken& token = result.tokens.emplace_back();
    token.sequence = sequence.sequence;
    if (mask.state != TokenMask::State::kTokens) {
      const bool failed = mask.state == TokenMask::State::kFailed;
      token.outcome = failed ? SampledToken::Outcome::kFailed : SampledToken::Outcome::kComplete;
      token.status = std::move(mask.status);
      continue;
    }
    rows_[row] = wanted;
    sampled_.push_back({row, &sequence});
  }
  return absl::OkStatus();
}

void TokenRows::Take(const std::vector<SampleOutput>& outputs, const std::string& dtype, SamplerState& state,
                     StepResult& result) const {
  const auto fill = [&](const Output& from, SampledToken& token) {
    const SampleOutput& output = outputs[from.row];
    token.sequence = from.sequence->sequence;
    if (!output.finite) {
      token.outcome = SampledToken::Outcome::kNotFinite;
      token.status = NotFinite(dtype);
      return;
    }
    token.token = output.token;
    token.logprob = output.logprob;
    for (const auto& [id, logprob] : output.top) token.top_logprobs.push_back({id, logprob});
  };
  for (const Output& output : scored_) fill(output, result.prompt.emplace_back());
  auto token = result.tokens.begin();
  for (const Output& output : sampled_) {
    while (token->outcome != SampledToken::Outcome::kToken) ++token;
    fill(output, *token);
    if (token->outcome == SampledToken::Outcome::kNotFinite) {
      // The sequence has ended: rows of it that are in flight compute nothing that is read.
    } else if (Allows(rows_[output.row], token->token)) {
      state.Sampled(*output.sequence, token->token);
    } else {
      token->outcome = SampledToken::Outcome::kFailed;
      token->status =
          absl::InternalError("the model gives no number above -infinity to any token that the grammar allows");
    }
    ++token;
  }
}

}  // namespace causeway
