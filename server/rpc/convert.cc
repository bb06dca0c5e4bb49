#include "server/rpc/convert.h"

#include "server/rpc/status_map.h"

namespace causeway {

v1::FinishReason ToWire(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop: return v1::STOP;
    case FinishReason::kLength: return v1::LENGTH;
    case FinishReason::kCancelled: return v1::CANCELLED;
    case FinishReason::kDeadline: return v1::DEADLINE;
    default: return v1::FINISH_REASON_UNSPECIFIED;  // an error, which the call's status names
  }
}

void FillLogprob(const SampledToken& token, v1::TokenLogprob* out) {
  out->set_token_id(token.token);
  out->set_logprob(token.logprob);
  for (const TokenLogprob& top : token.top_logprobs) {
    v1::TopLogprob* entry = out->add_top();
    entry->set_token_id(top.token);
    entry->set_logprob(top.logprob);
  }
}

v1::Usage UsageOf(const GenerationEnd& end) {
  v1::Usage usage;
  usage.set_prompt_tokens(end.prompt_tokens);
  usage.set_generated_tokens(end.generated_tokens);
  usage.set_cached_tokens(end.cached_tokens);
  return usage;
}

v1::Timing TimingOf(const GenerationEnd& end) {
  v1::Timing timing;
  timing.set_queue_seconds(end.queue_seconds);
  timing.set_prefill_seconds(end.prefill_seconds);
  timing.set_decode_seconds(end.decode_seconds);
  return timing;
}

Outcome OutcomeOf(const GenerationEnd& end) {
  if (!end.status.ok()) return OutcomeOf(end.status);
  bool length = false, cancelled = false, deadline = false;
  for (const ChoiceEnd& choice : end.choices) {
    if (choice.reason == FinishReason::kError) return Outcome::kError;
    deadline |= choice.reason == FinishReason::kDeadline;
    cancelled |= choice.reason == FinishReason::kCancelled;
    length |= choice.reason == FinishReason::kLength;
  }
  return deadline ? Outcome::kDeadline : cancelled ? Outcome::kCancelled : length ? Outcome::kLength : Outcome::kStop;
}

}  // namespace causeway
