#include "server/cluster/wire.h"

#include <bit>
#include <cstring>
#include <string>
#include <utility>

#include "engine/base/status.h"
#include "server/cluster/wire_fields.h"

namespace causeway {
namespace {

static_assert(std::endian::native == std::endian::little, "masks cross as they lie in memory");

// Structured bindings name every field of the engine's types, so that one which is added there does not compile until
// it is here, too.

void Put(const SamplingParams& params, v1::SamplingValues* wire) {
  const auto& [temperature, top_k, top_p, min_p, typical_p, repetition_penalty, presence_penalty, frequency_penalty,
               logit_bias, seed, logprobs, top_logprobs, prompt_logprobs] = params;
  wire->set_temperature(temperature);
  wire->set_top_k(top_k);
  wire->set_top_p(top_p);
  wire->set_min_p(min_p);
  wire->set_typical_p(typical_p);
  wire->set_repetition_penalty(repetition_penalty);
  wire->set_presence_penalty(presence_penalty);
  wire->set_frequency_penalty(frequency_penalty);
  for (const auto& [token, bias] : logit_bias) {
    wire->add_bias_ids(token);
    wire->add_bias_values(bias);
  }
  wire->set_seed(seed);
  wire->set_logprobs(logprobs);
  wire->set_top_logprobs(top_logprobs);
  wire->set_prompt_logprobs(prompt_logprobs);
}

absl::Status Take(const v1::SamplingValues& wire, SamplingParams& params) {
  CAUSEWAY_RETURN_IF_ERROR(CheckEqual("start.sampling.bias_values", wire.bias_values_size(), wire.bias_ids_size()));
  CAUSEWAY_RETURN_IF_ERROR(CheckIn("start.sampling.top_logprobs", wire.top_logprobs(), 0, kTopLogprobsMax));
  params.temperature = wire.temperature();
  params.top_k = wire.top_k();
  params.top_p = wire.top_p();
  params.min_p = wire.min_p();
  params.typical_p = wire.typical_p();
  params.repetition_penalty = wire.repetition_penalty();
  params.presence_penalty = wire.presence_penalty();
  params.frequency_penalty = wire.frequency_penalty();
  params.logit_bias.reserve(wire.bias_ids_size());
  for (int i = 0; i < wire.bias_ids_size(); ++i) params.logit_bias.emplace_back(wire.bias_ids(i), wire.bias_values(i));
  params.seed = wire.seed();
  params.logprobs = wire.logprobs();
  params.top_logprobs = wire.top_logprobs();
  params.prompt_logprobs = wire.prompt_logprobs();
  return absl::OkStatus();
}

void Put(const SequenceStart& start, v1::SequenceStart* wire) {
  const auto& [sampling, min_tokens, stop_token_ids, tokens, prompt_tokens] = start;
  Put(sampling, wire->mutable_sampling());
  wire->set_min_tokens(min_tokens);
  Fill(stop_token_ids, wire->mutable_stop_token_ids());
  Fill(tokens, wire->mutable_tokens());
  wire->set_prompt_tokens(prompt_tokens);
}

absl::StatusOr<std::shared_ptr<const SequenceStart>> Take(const v1::SequenceStart& wire) {
  CAUSEWAY_RETURN_IF_ERROR(CheckIn("start.prompt_tokens", wire.prompt_tokens(), 0, wire.tokens_size()));
  auto start = std::make_shared<SequenceStart>();
  CAUSEWAY_RETURN_IF_ERROR(Take(wire.sampling(), start->sampling));
  start->min_tokens = wire.min_tokens();
  start->stop_token_ids = Values(wire.stop_token_ids());
  start->tokens = Values(wire.tokens());
  start->prompt_tokens = wire.prompt_tokens();
  return start;
}

void Put(const StepSequence& s, v1::StepSequence* wire) {
  const auto& [sequence, slot, tokens, context, block_table, sample, targets, all_logits, generated, start, local] = s;
  wire->set_sequence(sequence);
  wire->set_slot(slot);
  Fill(tokens, wire->mutable_tokens());
  wire->set_context(context);
  Fill(block_table, wire->mutable_block_table());
  wire->set_sample(sample);
  Fill(targets, wire->mutable_targets());
  wire->set_all_logits(all_logits);
  wire->set_generated(generated);
  const auto& [constraint, layer_outputs] = local;
  if (start != nullptr) {
    Put(*start, wire->mutable_start());
    wire->set_constrained(constraint != nullptr);
  }
  if (layer_outputs != nullptr) {
    v1::GatheredRows* rows = wire->mutable_layer_outputs();
    rows->set_sequence(sequence);
    Fill(layer_outputs->units, rows->mutable_units());
    rows->set_rows(layer_outputs->rows);
    rows->set_width(layer_outputs->width);
  }
}

absl::Status CheckLayerOutputs(const v1::GatheredRows& wire) {
  CAUSEWAY_RETURN_IF_ERROR(CheckAscending("layer_outputs.units", wire.units()));
  CAUSEWAY_RETURN_IF_ERROR(CheckIn("layer_outputs.rows", wire.rows(), 1, kMax32));
  CAUSEWAY_RETURN_IF_ERROR(CheckIn("layer_outputs.width", wire.width(), 1, kMax32));
  // In double, nothing overflows.
  return CheckIn("layer_outputs.units x rows x width",
                 static_cast<double>(wire.units_size()) * wire.rows() * wire.width(), 0.0,
                 static_cast<double>(int64_t{1} << 48));
}

absl::Status Take(const v1::StepSequence& wire, const LocalParts& parts, StepSequence& s) {
  const int rows = wire.tokens_size();
  CAUSEWAY_RETURN_IF_ERROR(CheckIn("slot", wire.slot(), 0, kMax32));
  CAUSEWAY_RETURN_IF_ERROR(CheckIn("tokens: their number", rows, 1, kMax32));
  CAUSEWAY_RETURN_IF_ERROR(CheckAll("tokens", absl::MakeConstSpan(wire.tokens()).first(rows - 1), 0));
  CAUSEWAY_RETURN_IF_ERROR(CheckIn("tokens", wire.tokens(rows - 1), kPlaceholderToken, kMax32));
  CAUSEWAY_RETURN_IF_ERROR(CheckIn("context", wire.context(), 0, kMax32));
  CAUSEWAY_RETURN_IF_ERROR(CheckAll("block_table", wire.block_table(), 0));
  CAUSEWAY_RETURN_IF_ERROR(CheckIn("targets: their number", wire.targets_size(), 0, rows));
  CAUSEWAY_RETURN_IF_ERROR(CheckIn("generated", wire.generated(), 0, kMax32));
  s.sequence = wire.sequence();
  s.slot = wire.slot();
  s.tokens = Values(wire.tokens());
  s.context = wire.context();
  s.block_table = Values(wire.block_table());
  s.sample = wire.sample();
  s.targets = Values(wire.targets());
  s.all_logits = wire.all_logits();
  s.generated = wire.generated();
  if (wire.has_start()) {
    CAUSEWAY_ASSIGN_OR_RETURN(s.start, Take(wire.start()));
  }
  if (wire.constrained()) {
    if (!wire.has_start()) return absl::InvalidArgumentError("constrained: it is set without a start");
    s.local.constraint = parts.constraint(s.sequence);
  }
  if (wire.has_layer_outputs()) {
    const v1::GatheredRows& outputs = wire.layer_outputs();
    CAUSEWAY_RETURN_IF_ERROR(CheckLayerOutputs(outputs));
    s.local.layer_outputs = parts.layer_outputs(s.sequence, Values(outputs.units()), outputs.rows(), outputs.width());
  }
  return absl::OkStatus();
}

void Put(const SampledToken& sampled, v1::Sampled* wire) {
  const auto& [sequence, outcome, status, token, logprob, top_logprobs] = sampled;
  wire->set_sequence(sequence);
  wire->set_outcome(static_cast<int32_t>(outcome));
  if (!status.ok()) *wire->mutable_status() = ToWire(status);
  wire->set_token(token);
  wire->set_logprob(logprob);
  wire->mutable_top_ids()->Reserve(static_cast<int>(top_logprobs.size()));
  wire->mutable_top_logprobs()->Reserve(static_cast<int>(top_logprobs.size()));
  for (const auto& [id, value] : top_logprobs) {
    wire->add_top_ids(id);
    wire->add_top_logprobs(value);
  }
}

absl::Status Take(const v1::Sampled& wire, SampledToken& sampled) {
  CAUSEWAY_RETURN_IF_ERROR(
      CheckIn("outcome", wire.outcome(), 0, static_cast<int32_t>(SampledToken::Outcome::kNotFinite)));
  CAUSEWAY_RETURN_IF_ERROR(CheckEqual("top_logprobs", wire.top_logprobs_size(), wire.top_ids_size()));
  sampled.sequence = wire.sequence();
  sampled.outcome = static_cast<SampledToken::Outcome>(wire.outcome());
  sampled.status = FromWire(wire.status());
  sampled.token = wire.token();
  sampled.logprob = wire.logprob();
  sampled.top_logprobs.reserve(wire.top_ids_size());
  for (int i = 0; i < wire.top_ids_size(); ++i) sampled.top_logprobs.push_back({wire.top_ids(i), wire.top_logprobs(i)});
  return absl::OkStatus();
}

absl::StatusOr<std::vector<SampledToken>> Take(const Repeated<v1::Sampled>& wire, absl::string_view field) {
  std::vector<SampledToken> all(wire.size());
  for (int i = 0; i < wire.size(); ++i) CAUSEWAY_RETURN_IF_ERROR(Within(field, i, Take(wire[i], all[i])));
  return all;
}

}  // namespace

v1::Status ToWire(const absl::Status& status) {
  v1::Status wire;
  wire.set_code(static_cast<int32_t>(status.code()));
  wire.set_message(std::string(status.message()));
  return wire;
}

absl::Status FromWire(const v1::Status& wire) {
  return absl::Status(static_cast<absl::StatusCode>(wire.code()), wire.message());
}

v1::Step ToWire(const StepPlan& plan) {
  const auto& [step, sequences, tokens, prefill_tokens] = plan;
  v1::Step wire;
  wire.set_step(step);
  wire.set_tokens(tokens);
  wire.set_prefill_tokens(prefill_tokens);
  wire.mutable_sequences()->Reserve(static_cast<int>(sequences.size()));
  for (const StepSequence& sequence : sequences) Put(sequence, wire.add_sequences());
  return wire;
}

absl::StatusOr<StepPlan> FromWire(const v1::Step& wire, const LocalParts& parts) {
  StepPlan plan;
  plan.step = wire.step();
  plan.sequences.resize(wire.sequences_size());
  for (int i = 0; i < wire.sequences_size(); ++i) {
    CAUSEWAY_RETURN_IF_ERROR(Within("sequences", i, Take(wire.sequences(i), parts, plan.sequences[i])));
    plan.tokens += wire.sequences(i).tokens_size();
  }
  CAUSEWAY_RETURN_IF_ERROR(CheckEqual("tokens", wire.tokens(), plan.tokens));
  CAUSEWAY_RETURN_IF_ERROR(CheckIn("prefill_tokens", wire.prefill_tokens(), 0, plan.tokens));
  plan.prefill_tokens = wire.prefill_tokens();
  return plan;
}

v1::Result ToWire(const StepResult& result) {
  const auto& [step, rows, prefill_rows, sequences, status, device_failure, tokens, prompt, logits, seconds] = result;
  v1::Result wire;
  wire.set_step(step);
  wire.set_rows(rows);
  wire.set_prefill_rows(prefill_rows);
  wire.set_sequences(sequences);
  if (!status.ok()) *wire.mutable_status() = ToWire(status);
  if (!device_failure.ok()) *wire.mutable_device_failure() = ToWire(device_failure);
  wire.mutable_tokens()->Reserve(static_cast<int>(tokens.size()));
  for (const SampledToken& token : tokens) Put(token, wire.add_tokens());
  wire.mutable_prompt()->Reserve(static_cast<int>(prompt.size()));
  for (const SampledToken& token : prompt) Put(token, wire.add_prompt());
  for (const std::vector<float>& values : logits) Fill(values, wire.add_logits()->mutable_values());
  wire.set_seconds(seconds);
  return wire;
}

absl::StatusOr<StepResult> FromWire(const v1::Result& wire) {
  StepResult result;
  result.step = wire.step();
  result.rows = wire.rows();
  result.prefill_rows = wire.prefill_rows();
  result.sequences = wire.sequences();
  result.status = FromWire(wire.status());
  result.device_failure = FromWire(wire.device_failure());
  CAUSEWAY_ASSIGN_OR_RETURN(result.tokens, Take(wire.tokens(), "tokens"));
  CAUSEWAY_ASSIGN_OR_RETURN(result.prompt, Take(wire.prompt(), "prompt"));
  result.logits.reserve(wire.logits_size());
  for (const v1::Logits& logits : wire.logits()) result.logits.push_back(Values(logits.values()));
  result.seconds = wire.seconds();
  return result;
}

v1::StepMask ToWire(int replica, uint64_t sequence, int64_t index, const TokenMask& mask) {
  const auto& [state, allowed, status] = mask;
  v1::StepMask wire;
  wire.set_replica(replica);
  wire.set_sequence(sequence);
  wire.set_index(index);
  wire.set_state(static_cast<int32_t>(state));
  wire.set_allowed(allowed.data(), allowed.size() * sizeof(uint32_t));
  if (!status.ok()) *wire.mutable_status() = ToWire(status);
  return wire;
}

absl::StatusOr<ReceivedMask> FromWire(const v1::StepMask& wire) {
  CAUSEWAY_RETURN_IF_ERROR(CheckIn("mask: state", wire.state(), 0, static_cast<int32_t>(TokenMask::State::kFailed)));
  CAUSEWAY_RETURN_IF_ERROR(CheckIn("mask: index", wire.index(), 0, kMax32));
  const size_t words = wire.allowed().size() / sizeof(uint32_t);
  CAUSEWAY_RETURN_IF_ERROR(CheckEqual("mask: bytes of allowed", static_cast<int64_t>(wire.allowed().size()),
                                      static_cast<int64_t>(words * sizeof(uint32_t))));
  ReceivedMask mask{.replica = wire.replica(),
                    .sequence = wire.sequence(),
                    .index = wire.index(),
                    .state = static_cast<TokenMask::State>(wire.state()),
                    .status = FromWire(wire.status())};
  mask.allowed.resize(words);
  if (words > 0) std::memcpy(mask.allowed.data(), wire.allowed().data(), wire.allowed().size());
  return mask;
}

}  // namespace causeway
