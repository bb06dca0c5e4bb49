#include "client/options.h"

#include <utility>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/read_file.h"

namespace causeway {
namespace {

constexpr double kTimeoutSecondsMax = 604800;  // a week

absl::Status ReadOption(const char* option, const std::string& path, std::string* out) {
  const absl::StatusOr<std::string> text = ReadFile(path);
  if (!text.ok()) return absl::InvalidArgumentError(absl::StrCat(option, ": ", std::string(text.status().message())));
  *out = *text;
  return absl::OkStatus();
}

// For add_option_function: an option given as "" counts as given.
std::function<void(const std::string&)> Into(std::optional<std::string>& to) {
  return [&to](const std::string& text) { to = text; };
}

}  // namespace

void SamplingFlags::AddTo(CLI::App& app) {
  const char group[] = "Sampling and stopping (what is left out is the model's default)";
  app.add_option("--max-tokens", max_tokens, "Tokens to generate at most")->group(group);
  app.add_option("--min-tokens", min_tokens, "No end before this many tokens")->group(group);
  app.add_option("--temperature", temperature, "0 is greedy; up to 2")->group(group);
  app.add_option("--top-k", top_k, "Only the K likeliest tokens; 0 is all")->group(group);
  app.add_option("--top-p", top_p, "Only the likeliest tokens of this total probability, (0, 1]")->group(group);
  app.add_option("--typical-p", typical_p,
                 "Only tokens of the most typical surprise that are this likely together, (0, 1]")
      ->group(group);
  app.add_option("--min-p", min_p, "Only tokens at least this likely beside the likeliest, [0, 1]")->group(group);
  app.add_option("--repetition-penalty", repetition_penalty, "Above 1: less of what was there")->group(group);
  app.add_option("--presence-penalty", presence_penalty, "[-2, 2], for tokens already generated")->group(group);
  app.add_option("--frequency-penalty", frequency_penalty, "[-2, 2], for each time a token was generated")
      ->group(group);
  // Each use takes one value. By itself CLI11 gives a vector every word that follows, the prompt too.
  app.add_option("--logit-bias", logit_bias, "ID:BIAS, within +-100; may be given again")
      ->allow_extra_args(false)
      ->group(group);
  app.add_option("--seed", seed, "Equal seeds give equal text")->group(group);
  app.add_option("--n", n, "Choices, 1 to 16")->group(group);
  app.add_option("--stop", stop, "Ends at this text; may be given again")->allow_extra_args(false)->group(group);
  app.add_option("--stop-id", stop_ids, "Ends at this token id; may be given again")
      ->allow_extra_args(false)
      ->group(group);
  app.add_flag("--ignore-eos", ignore_eos, "Goes on past the model's end-of-sequence tokens")->group(group);
  app.add_flag("--include-stop", include_stop, "Leaves the stop text in the output")->group(group);
  const char grammars[] = "A grammar that the output follows";
  CLI::Option* schema =
      app.add_option_function("--json-schema", Into(json_schema_file), "File of a JSON schema")->group(grammars);
  CLI::Option* object = app.add_flag("--json-object", json_object, "Any JSON object")->group(grammars);
  app.add_flag("--compact-json", compact_json, "No white space in the JSON of --json-schema and --json-object")
      ->group(grammars);
  CLI::Option* pattern =
      app.add_option_function("--regex", Into(regex), "Regular expression for the whole output")->group(grammars);
  CLI::Option* choice = app.add_option("--choice", choices, "One of these texts; give it again for each")
                            ->allow_extra_args(false)
                            ->group(grammars);
  CLI::Option* lark = app.add_option_function("--grammar", Into(grammar_file), "File of a grammar in llguidance's Lark")
                          ->group(grammars);
  const std::vector<CLI::Option*> kinds = {schema, object, pattern, choice, lark};
  for (size_t i = 0; i < kinds.size(); ++i) {
    for (size_t j = i + 1; j < kinds.size(); ++j) kinds[i]->excludes(kinds[j]);
  }
  app.add_option("--model", model, "Name of the model; must be the one served");
  app.add_option("--cache-salt", cache_salt, "Shares cached prefixes only with requests of the same salt");
  app.add_option("--priority", priority, "Higher goes first");
  app.add_option("--timeout", timeout_seconds, "Gives up after this many seconds; 0 never does")
      ->check(NumberBetween(0, kTimeoutSecondsMax));
}

absl::Status SamplingFlags::FillGrammar(v1::GenerateRequest& request) const {
  if (compact_json) request.mutable_grammar()->set_compact_json(true);
  if (json_schema_file)
    return ReadOption("--json-schema", *json_schema_file, request.mutable_grammar()->mutable_json_schema());
  if (grammar_file) return ReadOption("--grammar", *grammar_file, request.mutable_grammar()->mutable_lark());
  if (json_object) request.mutable_grammar()->set_json_object(true);
  if (regex) request.mutable_grammar()->set_regex(*regex);
  for (const std::string& text : choices) request.mutable_grammar()->mutable_choice()->add_texts(text);
  return absl::OkStatus();
}

absl::Status SamplingFlags::Fill(v1::GenerateRequest& request) const {
  v1::SamplingOptions& sampling = *request.mutable_sampling();
  if (temperature) sampling.set_temperature(*temperature);
  if (top_k) sampling.set_top_k(*top_k);
  if (top_p) sampling.set_top_p(*top_p);
  if (min_p) sampling.set_min_p(*min_p);
  if (typical_p) sampling.set_typical_p(*typical_p);
  if (repetition_penalty) sampling.set_repetition_penalty(*repetition_penalty);
  if (presence_penalty) sampling.set_presence_penalty(*presence_penalty);
  if (frequency_penalty) sampling.set_frequency_penalty(*frequency_penalty);
  if (seed) sampling.set_seed(*seed);
  if (n) sampling.set_n(*n);
  for (const std::string& entry : logit_bias) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(entry, absl::MaxSplits(':', 1));
    int32_t id;
    float bias;
    if (!absl::SimpleAtoi(parts.first, &id) || !absl::SimpleAtof(parts.second, &bias)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--logit-bias \"", entry, "\": expected ID:BIAS, for example 42:-100"));
    }
    (*sampling.mutable_logit_bias())[id] = bias;
  }
  v1::StopOptions& stops = *request.mutable_stop();
  if (max_tokens) stops.set_max_tokens(*max_tokens);
  if (min_tokens) stops.set_min_tokens(*min_tokens);
  for (const std::string& text : stop) stops.add_strings(text);
  for (const int32_t id : stop_ids) stops.add_token_ids(id);
  if (ignore_eos) stops.set_ignore_eos(true);
  if (include_stop) stops.set_include_stop(true);
  request.set_model(model);
  request.set_cache_salt(cache_salt);
  request.set_priority(priority);
  return FillGrammar(request);
}

std::function<std::string(const std::string&)> NumberBetween(double minimum, double maximum) {
  return [=](const std::string& text) {
    double value;
    if (absl::SimpleAtod(text, &value) && value >= minimum && value <= maximum) return std::string();
    return absl::StrCat("\"", text, "\" is not a number in [", minimum, ", ", maximum, "]");
  };
}

absl::StatusOr<std::vector<int32_t>> ParseTokenIds(const std::string& text) {
  std::vector<int32_t> ids;
  for (absl::string_view part : absl::StrSplit(text, absl::ByAnyChar(", \n\t"), absl::SkipEmpty())) {
    int32_t id;
    if (!absl::SimpleAtoi(part, &id) || id < 0) {
      return absl::InvalidArgumentError(absl::StrCat("\"", part, "\" is no token id; expected ids as in 12,7,99"));
    }
    ids.push_back(id);
  }
  if (ids.empty()) return absl::InvalidArgumentError("no token ids; expected ids as in 12,7,99");
  return ids;
}

absl::StatusOr<std::vector<int32_t>> ParseLayers(const std::string& text) {
  std::vector<int32_t> layers;
  if (text == "all") return layers;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    int32_t layer;
    if (!absl::SimpleAtoi(part, &layer)) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", part, "\" is no layer; expected layers as in 0,5,-1, or all"));
    }
    layers.push_back(layer);
  }
  return layers;
}

}  // namespace causeway
