// From the engine's types to the wire's.
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

// The outcome of a request: its status's, where the engine gave one, else the least wanted of its choices', which may have ended
// differently.
Outcome OutcomeOf(const GenerationEnd& end);

// Adds a piece to a v1::Delta or a v1::Choice.
template <typename Message>
void AppendDelta(const GenerationDelta& delta, const OutputShape& shape, Message* out) {
  out->mutable_text()->append(delta.text);
  for (const SampledToken& token : delta.tokens) {
    if (shape.token_ids) out->add_token_ids(token.token);
    if (!shape.logprobs) continue;
    v1::TokenLogprob* logprob = out->add_logprobs();
    logprob->set_token_id(token.token);
    logprob->set_logprob(token.logprob);
    for (const TokenLogprob& top : token.top_logprobs) {
      v1::TopLogprob* entry = logprob->add_top();
      entry->set_token_id(top.token);
      entry->set_logprob(top.logprob);
    }
  }
}

// The prompt in front of a choice, when it is to be echoed.
template <typename Message>
void AppendEcho(const OutputShape& shape, Message* out) {
  out->mutable_text()->append(shape.echo_text);
  out->mutable_token_ids()->Add(shape.echo_ids.begin(), shape.echo_ids.end());
}

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_CONVERT_H_
