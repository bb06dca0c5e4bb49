#include "server/rpc/prepare_request.h"

#include <algorithm>
#include <random>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status.h"
#include "engine/sampling/params.h"
#include "server/rpc/limits.h"

namespace causeway {
namespace {

uint64_t RandomSeed() {
  thread_local std::mt19937_64 generator{std::random_device{}()};
  return generator();
}

absl::Status Wrong(absl::string_view field, absl::string_view value, absl::string_view expected) {
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", value, ", expected ", expected));
}

absl::Status CheckCount(absl::string_view field, int64_t count, int64_t max) {
  if (count <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, " has ", count, " entries, expected at most ", max));
}

absl::Status CheckIds(absl::string_view field, const google::protobuf::RepeatedField<int32_t>& ids,
                      int64_t vocab_size) {
  for (int i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < vocab_size) continue;
    return Wrong(absl::StrCat(field, "[", i, "]"), absl::StrCat(ids[i]),
                 absl::StrCat("an id in [0, ", vocab_size, ")"));
  }
  return absl::OkStatus();
}

// Refuses a text that is too long for a prompt, whatever its tokens are: a megabyte takes a second and 150 MB to
// tokenize.
absl::Status CheckFits(absl::string_view field, size_t bytes, const Engine& engine) {
  if (engine.tokenizer() == nullptr) return absl::OkStatus();  // the caller has a better message
  constexpr int64_t kShrink = 4;                               // the most by which normalizing makes a text shorter
  const int64_t tokens = engine.model().plan.options.max_model_len, longest = engine.tokenizer()->longest_token();
  if (static_cast<int64_t>(bytes) <= kShrink * tokens * longest) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, " has ", bytes, " bytes, expected at most ",
                                                 kShrink * tokens * longest, ": max_model_len is ", tokens,
                                                 " tokens and the longest token has ", longest, " bytes"));
}

absl::StatusOr<EncodedInput> ReadInput(const v1::GenerateRequest& wire, const Serving& serving) {
  switch (wire.input_case()) {
    case v1::GenerateRequest::kPrompt:
      CAUSEWAY_RETURN_IF_ERROR(CheckFits("prompt", wire.prompt().size(), *serving.engine));
      return EncodeText(serving, "prompt", wire.prompt(), true);
    case v1::GenerateRequest::kChat:
      CAUSEWAY_RETURN_IF_ERROR(CheckFits("chat", wire.chat().ByteSizeLong(), *serving.engine));
      return EncodeChat(serving, wire.chat(), false);
    case v1::GenerateRequest::kTokens: {
      if (wire.tokens().ids().empty())
        return absl::InvalidArgumentError("tokens.ids is empty, expected at least one token id");
      CAUSEWAY_RETURN_IF_ERROR(CheckIds("tokens.ids", wire.tokens().ids(), serving.engine->model().spec.vocab_size));
      EncodedInput input;
      input.ids.assign(wire.tokens().ids().begin(), wire.tokens().ids().end());
      return input;
    }
    default: return absl::InvalidArgumentError("no input: set one of prompt, tokens and chat");
  }
}

absl::Status ReadSampling(const v1::SamplingOptions& wire, const ModelDefaults& defaults, int64_t vocab_size,
                          SamplingParams* out) {
  CAUSEWAY_RETURN_IF_ERROR(
      CheckCount("sampling.logit_bias", static_cast<int64_t>(wire.logit_bias().size()), kLogitBiasMax));
  out->temperature = wire.has_temperature() ? wire.temperature() : defaults.temperature;
  out->top_k = wire.has_top_k() ? wire.top_k() : defaults.top_k;
  out->top_p = wire.has_top_p() ? wire.top_p() : defaults.top_p;
  out->min_p = wire.has_min_p() ? wire.min_p() : defaults.min_p;
  out->typical_p = wire.has_typical_p() ? wire.typical_p() : defaults.typical_p;
  out->repetition_penalty = wire.has_repetition_penalty() ? wire.repetition_penalty() : defaults.repetition_penalty;
  out->presence_penalty = wire.presence_penalty();
  out->frequency_penalty = wire.frequency_penalty();
  out->logit_bias.assign(wire.logit_bias().begin(), wire.logit_bias().end());
  // A map has no order, but equal requests must be equal.
  std::sort(out->logit_bias.begin(), out->logit_bias.end());
  out->seed = wire.has_seed() ? wire.seed() : RandomSeed();
  if (absl::Status status = Validate(*out, vocab_size); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("sampling.", std::string(status.message())));
  }
  return absl::OkStatus();
}

absl::Status ReadStop(const v1::StopOptions& wire, const ModelSpec& spec, bool has_tokenizer, StopParams* out) {
  if (wire.has_max_tokens() && wire.max_tokens() < 1)
    return Wrong("stop.max_tokens", absl::StrCat(wire.max_tokens()), "1 or more");
  if (wire.min_tokens() < 0 || (wire.has_max_tokens() && wire.min_tokens() > wire.max_tokens())) {
    return Wrong(
        "stop.min_tokens", absl::StrCat(wire.min_tokens()),
        wire.has_max_tokens() ? absl::StrCat("a number in [0, max_tokens = ", wire.max_tokens(), "]") : "0 or more");
  }
  CAUSEWAY_RETURN_IF_ERROR(CheckCount("stop.strings", wire.strings_size(), kStopStringsMax));
  CAUSEWAY_RETURN_IF_ERROR(CheckCount("stop.token_ids", wire.token_ids_size(), kStopTokenIdsMax));
  if (wire.strings_size() > 0 && !has_tokenizer) {
    return absl::InvalidArgumentError("stop.strings needs text, and the model has no tokenizer; use stop.token_ids");
  }
  for (int i = 0; i < wire.strings_size(); ++i) {
    if (const size_t bytes = wire.strings(i).size(); bytes < 1 || bytes > kStopStringBytesMax) {
      return absl::InvalidArgumentError(
          absl::StrCat("stop.strings[", i, "] has ", bytes, " bytes, expected 1 to ", kStopStringBytesMax));
    }
  }
  CAUSEWAY_RETURN_IF_ERROR(CheckIds("stop.token_ids", wire.token_ids(), spec.vocab_size));
  out->max_tokens = wire.max_tokens();
  out->min_tokens = wire.min_tokens();
  out->strings.assign(wire.strings().begin(), wire.strings().end());
  out->token_ids.assign(wire.token_ids().begin(), wire.token_ids().end());
  if (!wire.ignore_eos())
    out->token_ids.insert(out->token_ids.end(), spec.eos_token_ids.begin(), spec.eos_token_ids.end());
  out->include_stop = wire.include_stop();
  return absl::OkStatus();
}

// Returns null where the request has none. Compiling takes milliseconds, and up to a second for hostile grammars.
absl::StatusOr<std::shared_ptr<const GrammarMatcher>> ReadGrammar(const v1::GrammarOptions& wire,
                                                                  const std::string& field, Engine& engine) {
  GrammarSource source;
  if (wire.compact_json() && !wire.has_json_schema() && !wire.has_json_object())
    return Wrong("grammar.compact_json", "true", "json_schema or json_object beside it");
  switch (wire.kind_case()) {
    case v1::GrammarOptions::kJsonSchema: source = {GrammarKind::kJsonSchema, {wire.json_schema()}}; break;
    case v1::GrammarOptions::kRegex: source = {GrammarKind::kRegex, {wire.regex()}}; break;
    case v1::GrammarOptions::kLark: source = {GrammarKind::kLark, {wire.lark()}}; break;
    case v1::GrammarOptions::kJsonObject:
      if (!wire.json_object()) return Wrong(field, "false", "true, or another kind of grammar");
      source = {GrammarKind::kJsonObject, {}};
      break;
    case v1::GrammarOptions::kChoice: {
      const auto& texts = wire.choice().texts();
      if (texts.empty()) return absl::InvalidArgumentError("grammar.choice.texts is empty, expected at least one text");
      CAUSEWAY_RETURN_IF_ERROR(CheckCount("grammar.choice.texts", texts.size(), kGrammarChoicesMax));
      for (int i = 0; i < texts.size(); ++i) {
        if (texts[i].empty()) return absl::InvalidArgumentError(absl::StrCat("grammar.choice.texts[", i, "] is empty"));
      }
      source = {GrammarKind::kChoice, {texts.begin(), texts.end()}};
      break;
    }
    default: return nullptr;
  }
  source.compact_json = wire.compact_json();
  auto grammar = engine.CompileGrammar(source);
  if (!grammar.ok())
    return absl::Status(grammar.status().code(), absl::StrCat(field, ": ", std::string(grammar.status().message())));
  return grammar;
}

}  // namespace

absl::Status CheckRequestId(const std::string& id) {
  if (id.size() > kRequestIdBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("request_id has ", id.size(), " bytes, expected at most ", kRequestIdBytesMax));
  }
  if (std::all_of(id.begin(), id.end(), [](char c) { return absl::ascii_isprint(static_cast<unsigned char>(c)); }))
    return absl::OkStatus();
  return Wrong("request_id", absl::StrCat("\"", absl::CEscape(id), "\""), "printable ASCII characters");
}

absl::Status CheckModelName(const std::string& name, const Serving& serving) {
  if (name.empty() || name == serving.name) return absl::OkStatus();
  return absl::NotFoundError(
      absl::StrCat("model \"", absl::CEscape(name.substr(0, 200)), "\" is not served here; \"", serving.name, "\" is"));
}

absl::StatusOr<EncodedInput> EncodeText(const Serving& serving, const std::string& field, const std::string& text,
                                        bool add_special_tokens) {
  const Tokenizer* tokenizer = serving.engine->tokenizer();
  if (tokenizer == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(field, ": the model \"", serving.name,
                                                   "\" has no tokenizer and takes token ids only (tokens.ids)"));
  }
  EncodedInput input;
  input.text = text;
  auto ids = tokenizer->Encode(text, add_special_tokens);
  if (!ids.ok())
    return absl::Status(ids.status().code(), absl::StrCat(field, ": ", std::string(ids.status().message())));
  input.ids = *std::move(ids);
  return input;
}

absl::StatusOr<EncodedInput> EncodeChat(const Serving& serving, const v1::Chat& chat, bool add_special_tokens) {
  if (chat.messages().empty())
    return absl::InvalidArgumentError("chat.messages is empty, expected at least one message");
  CAUSEWAY_RETURN_IF_ERROR(CheckCount("chat.messages", chat.messages_size(), kChatMessagesMax));
  if (serving.engine->chat_template() == nullptr) {
    const std::string error = serving.engine->chat_template_error();
    return absl::InvalidArgumentError(
        absl::StrCat("chat: the model \"", serving.name, "\" has ",
                     error.empty() ? "no chat template" : absl::StrCat("a chat template that cannot be used: ", error),
                     "; send a prompt in the model's own format"));
  }
  std::vector<ChatMessage> messages;
  for (int i = 0; i < chat.messages_size(); ++i) {
    if (chat.messages(i).role().empty())
      return absl::InvalidArgumentError(absl::StrCat("chat.messages[", i, "].role is empty"));
    messages.push_back({chat.messages(i).role(), chat.messages(i).content()});
  }
  auto text = serving.engine->chat_template()->Render(messages, /*add_generation_prompt=*/true);
  if (!text.ok())
    return absl::Status(text.status().code(), absl::StrCat("chat: ", std::string(text.status().message())));
  return EncodeText(serving, "chat", *text, add_special_tokens);
}

absl::StatusOr<PreparedRequest> PrepareRequest(const v1::GenerateRequest& wire, const Serving& serving) {
  const ModelSpec& spec = serving.engine->model().spec;
  const bool has_tokenizer = serving.engine->tokenizer() != nullptr;
  CAUSEWAY_RETURN_IF_ERROR(CheckRequestId(wire.request_id()));
  CAUSEWAY_RETURN_IF_ERROR(CheckModelName(wire.model(), serving));

  PreparedRequest prepared;
  GenerationRequest& request = prepared.request;
  request.request_id = wire.request_id().empty() ? absl::StrFormat("r-%016x", RandomSeed()) : wire.request_id();
  CAUSEWAY_RETURN_IF_ERROR(ReadSampling(wire.sampling(), serving.defaults, spec.vocab_size, &request.sampling));
  CAUSEWAY_RETURN_IF_ERROR(ReadStop(wire.stop(), spec, has_tokenizer, &request.stop));
  if (wire.sampling().has_num_beams() && wire.sampling().num_beams() != 1) {
    return absl::UnimplementedError(
        absl::StrCat("sampling.num_beams is ", wire.sampling().num_beams(),
                     ", and there is no beam search; ask for sampling.n choices with output.logprobs and rank them"));
  }
  request.n = wire.sampling().has_n() ? wire.sampling().n() : 1;
  if (request.n < 1 || request.n > kChoicesMax)
    return Wrong("sampling.n", absl::StrCat(request.n), absl::StrCat("a number in [1, ", kChoicesMax, "]"));
  request.priority = wire.priority();
  if (request.priority < -kPriorityMax || request.priority > kPriorityMax) {
    return Wrong("priority", absl::StrCat(request.priority),
                 absl::StrCat("a number in [", -kPriorityMax, ", ", kPriorityMax, "]"));
  }
  request.cache_salt = wire.cache_salt();
  if (request.cache_salt.size() > kCacheSaltBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("cache_salt has ", request.cache_salt.size(), " bytes, expected at most ", kCacheSaltBytesMax));
  }
  const v1::OutputOptions& output = wire.output();
  if (output.top_logprobs() < 0 || output.top_logprobs() > kTopLogprobsMax) {
    return Wrong("output.top_logprobs", absl::StrCat(output.top_logprobs()),
                 absl::StrCat("a number in [0, ", kTopLogprobsMax, "]"));
  }
  request.sampling.top_logprobs = output.top_logprobs();
  request.sampling.logprobs = output.logprobs() || output.top_logprobs() > 0;
  request.sampling.prompt_logprobs = output.prompt_logprobs();
  prepared.output.logprobs = request.sampling.logprobs;
  prepared.output.token_ids = output.has_token_ids() ? output.token_ids() : !has_tokenizer;

  // These come last, since they take long.
  if (const auto* field = wire.grammar().GetDescriptor()->FindFieldByNumber(wire.grammar().kind_case())) {
    prepared.grammar_field = absl::StrCat("grammar.", field->name());
  }
  CAUSEWAY_ASSIGN_OR_RETURN(request.grammar, ReadGrammar(wire.grammar(), prepared.grammar_field, *serving.engine));
  CAUSEWAY_ASSIGN_OR_RETURN(EncodedInput input, ReadInput(wire, serving));
  if (output.echo()) {
    if (wire.input_case() == v1::GenerateRequest::kTokens && has_tokenizer) {
      auto text = serving.engine->tokenizer()->Decode(input.ids, /*skip_special_tokens=*/false);
      // The model's head may have more rows than the tokenizer has tokens.
      if (!text.ok())
        return absl::Status(text.status().code(), absl::StrCat("tokens.ids: output.echo needs their text, and ",
                                                               std::string(text.status().message())));
      input.text = *std::move(text);
    }
    prepared.output.echo_text = std::move(input.text);
    if (prepared.output.token_ids) prepared.output.echo_ids = input.ids;
  }
  request.prompt = std::move(input.ids);
  return prepared;
}

}  // namespace causeway
