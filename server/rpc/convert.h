// Turns the engine's types into the wire's.
#ifndef CAUSEWAY_SERVER_RPC_CONVERT_H_
#define CAUSEWAY_SERVER_RPC_CONVERT_H_

#include "causeway/v1/generation.pb.h"
#include "engine/engine.h"
#include "server/rpc/prepare_request.h"
#include "server/telemetry/metrics.h"

namespace causeway {

v1::FinishReason ToWire(FinishReason reason);
v1::Usage UsageOf(const GenerationEnd& end);
v1::Timing TimingOf(const GenerationEnd& end);

// The outcome of a request. It follows the status where the engine gave one. Otherwise the choices may have ended
// differently, and the least wanted outcome counts.
Outcome OutcomeOf(const GenerationEnd& end);

void FillLogprob(const SampledToken& token, v1::TokenLogprob* out);

// Adds a piece to a v1::Delta or a v1::Choice.
template <typename Message>
void AppendDelta(const GenerationDelta& delta, const OutputShape& shape, Message* out) {
  out->mutable_text()->append(delta.text);
  for (const SampledToken& token : delta.tokens) {
    if (shape.token_ids) out->add_token_ids(token.token);
    if (!shape.logprobs) continue;
    FillLogprob(token, out->add_logprobs());
  }
  for (const SampledToken& token : delta.prompt) FillLogprob(token, out->add_prompt_logprobs());
}

// Writes the prompt before a choice, where it is to be echoed.
template <typename Message>
void AppendEcho(const OutputShape& shape, Message* out) {
  out->mutable_text()->append(shape.echo_text);
  out->mutable_token_ids()->Add(shape.echo_ids.begin(), shape.echo_ids.end());
}

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_CONVERT_H_
