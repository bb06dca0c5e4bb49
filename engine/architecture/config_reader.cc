#include "engine/architecture/config_reader.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace causeway {
namespace {

// Keys that mean another computation wherever they appear. Neutral: null, false, zero, empty, or the number given.
struct ChangingKey {
  absl::string_view key;
  double neutral;
};
constexpr ChangingKey kChanging[] = {
    {"adapter_config", 0},
    {"add_cross_attention", 0},
    {"alibi", 0},
    {"attention_bias", 0},
    {"attention_multiplier", 1},
    {"attn_logit_softcapping", 0},
    {"attn_type_list", 0},
    {"clip_qkv", 0},
    {"compression_config", 0},
    {"decoder_sparse_step", 1},
    {"embedding_multiplier", 1},
    {"final_logit_softcapping", 0},
    {"first_k_dense_replace", 0},
    {"is_encoder_decoder", 0},
    {"kv_lora_rank", 0},
    {"layer_types", 0},
    {"layernorm_full_attention_alpha", 1},
    {"layernorm_full_attention_beta", 1},
    {"layernorm_linear_attention_alpha", 1},
    {"layernorm_linear_attention_beta", 1},
    {"layernorm_mlp_alpha", 1},
    {"layernorm_mlp_beta", 1},
    {"logit_scale", 1},
    {"logits_scaling", 1},
    {"long_factor", 0},
    {"long_mscale", 1},
    {"mlp_bias", 0},
    {"mlp_only_layers", 0},
    {"moe_intermediate_size", 0},
    {"mrope_interleaved", 0},
    {"mrope_section", 0},
    {"n_group", 1},
    {"n_routed_experts", 0},
    {"n_shared_experts", 0},
    {"no_rope_layers", 0},
    {"norm_topk_prob", 0},
    {"num_experts", 0},
    {"num_experts_per_tok", 0},
    {"num_local_experts", 0},
    {"parallel_attn", 0},
    {"partial_rotary_factor", 1},
    {"per_layer_config", 0},
    {"postnorm", 0},
    {"pruned_heads", 0},
    {"qk_layernorm", 0},
    {"qk_norm_type", 0},
    {"quantization_config", 0},
    {"residual_multiplier", 1},
    {"rotary_dim", 0},
    {"rotary_pct", 1},
    {"routed_scaling_factor", 1},
    {"scoring_func", 0},
    {"shared_expert_intermediate_size", 0},
    {"shared_intermediate_size", 0},
    {"short_factor", 0},
    {"short_mscale", 1},
    {"sliding_window", 0},
    {"topk_group", 1},
    {"use_mrope", 0},
    {"use_qk_norm", 0},
    {"use_routing_bias", 0},
    {"use_sliding_window", 0},
};

// Keys that say nothing about the computation of a served model: training, bookkeeping, defaults of generation.
constexpr absl::string_view kInert[] = {
    "_attn_implementation",
    "_commit_hash",
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "attn_implementation",
    "attn_pdrop",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "embd_pdrop",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "hidden_dropout",
    "id2label",
    "initializer_range",
    "is_decoder",
    "keys_to_ignore_at_inference",
    "label2id",
    "length_penalty",
    "max_length",
    "max_window_layers",
    "min_length",
    "mlp_intermediate_size",  // minimax_m2: of a shared expert that it does not have
    "mtp_transformer_layers",
    "model_type",
    "n_ctx",
    "name_or_path",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_mtp_modules",  // layers that guess further tokens ahead; published checkpoints hold none
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_router_logits",
    "output_scores",
    "pad_token_id",
    "predict_special_tokens",
    "prefix",
    "pretraining_tp",  // how training cut its sums
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "resid_pdrop",
    "return_dict",
    "return_dict_in_generate",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "sep_token_id",
    "shared_moe_mode",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_last_hidden_states",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "unk_token_id",
    "use_bfloat16",
    "use_cache",
    "use_mtp",
};

// What float32 still holds with room for a product.
constexpr double kNumberMin = 1e-30, kNumberMax = 1e30;

bool IsNeutral(const Json& value, double number) {
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_number()) return value.get<double>() == 0 || value.get<double>() == number;
  return value.empty() || (value.is_string() && value.get_ref<const std::string&>().empty());
}

// 64.0 is 64, as Python's users write it.
std::optional<int64_t> WholeNumber(double number) {
  constexpr double kExactMax = int64_t{1} << 53;
  if (std::abs(number) > kExactMax || number != std::floor(number)) return std::nullopt;
  return static_cast<int64_t>(number);
}

}  // namespace

ConfigReader::ConfigReader(const Json& config, std::string what) : config_(&config), what_(std::move(what)) {}

const Json* ConfigReader::Find(absl::string_view key) {
  const Json* found = nullptr;
  for (const absl::string_view spelling : absl::StrSplit(key, '|')) {
    const auto value = config_->find(std::string(spelling));
    if (value == config_->end()) continue;
    read_.emplace(spelling);
    if (found == nullptr && !value->is_null()) found = &*value;
  }
  return found;
}

bool ConfigReader::Has(absl::string_view key) const {
  const auto value = config_->find(std::string(key));
  return value != config_->end() && !value->is_null();
}

void ConfigReader::Skip(absl::string_view key) { read_.emplace(key); }

void ConfigReader::Expected(absl::string_view key, absl::string_view expected, const Json* found) {
  const absl::string_view name = key.substr(0, key.find('|'));
  Invalid(absl::StrCat(name, ": expected ", expected, ", found ", found == nullptr ? "nothing" : JsonExcerpt(*found)));
}

std::optional<int64_t> ConfigReader::OptionalInt(absl::string_view key, int64_t min, int64_t max) {
  const Json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  std::optional<int64_t> whole;
  if (value->is_number_integer() && (!value->is_number_unsigned() || value->get<uint64_t>() <= INT64_MAX))
    whole = value->get<int64_t>();
  if (value->is_number_float()) whole = WholeNumber(value->get<double>());
  if (whole.has_value() && *whole >= min && *whole <= max) return whole;
  Expected(key, absl::StrCat("a whole number from ", min, " to ", max), value);
  return min;
}

int64_t ConfigReader::Int(absl::string_view key, int64_t min, int64_t max) {
  const std::optional<int64_t> value = OptionalInt(key, min, max);
  if (!value) Expected(key, absl::StrCat("a whole number from ", min, " to ", max), nullptr);
  return value.value_or(min);
}

int64_t ConfigReader::Int(absl::string_view key, int64_t min, int64_t max, int64_t otherwise) {
  return OptionalInt(key, min, max).value_or(otherwise);
}

std::optional<double> ConfigReader::Number(absl::string_view key, double min) {
  const Json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_number() && value->get<double>() >= min && value->get<double>() <= kNumberMax)
    return value->get<double>();
  Expected(key, absl::StrCat(min == 0 ? "a number from 0" : "a number above 0", ", at most ", kNumberMax), value);
  return 1;
}

std::optional<double> ConfigReader::OptionalNumber(absl::string_view key) { return Number(key, 0); }

double ConfigReader::Positive(absl::string_view key) {
  const std::optional<double> value = Number(key, kNumberMin);
  if (!value) Expected(key, absl::StrCat("a number above 0, at most ", kNumberMax), nullptr);
  return value.value_or(1);
}

double ConfigReader::Positive(absl::string_view key, double otherwise) {
  return Number(key, kNumberMin).value_or(otherwise);
}

bool ConfigReader::Bool(absl::string_view key, bool otherwise) {
  const Json* value = Find(key);
  if (value == nullptr) return otherwise;
  if (value->is_boolean()) return value->get<bool>();
  Expected(key, "true or false", value);
  return otherwise;
}

std::string ConfigReader::String(absl::string_view key, const std::string& otherwise) {
  const Json* value = Find(key);
  if (value == nullptr) return otherwise;
  if (value->is_string()) return value->get<std::string>();
  Expected(key, "a string", value);
  return otherwise;
}

std::vector<int64_t> ConfigReader::Ids(absl::string_view key, absl::string_view what) {
  const Json* value = Find(key);
  std::vector<int64_t> ids;
  if (value == nullptr) return ids;
  const auto add = [&](const Json& id) {
    if (!id.is_number_integer()) return Expected(key, absl::StrCat(what, " or a list of them"), value);
    ids.push_back(id.get<int64_t>());
  };
  if (value->is_array()) {
    for (const Json& id : *value) add(id);
  } else {
    add(*value);
  }
  return ids;
}

std::vector<double> ConfigReader::Numbers(absl::string_view key) {
  const Json* value = Find(key);
  std::vector<double> numbers;
  const auto fits = [](const Json& number) {
    return number.is_number() && number.get<double>() >= kNumberMin && number.get<double>() <= kNumberMax;
  };
  if (value == nullptr || !value->is_array() || !std::all_of(value->begin(), value->end(), fits)) {
    Expected(key, absl::StrCat("a list of numbers above 0, at most ", kNumberMax), value);
    return numbers;
  }
  for (const Json& number : *value) numbers.push_back(number.get<double>());
  return numbers;
}

ConfigReader ConfigReader::Object(absl::string_view key) {
  static const Json* const kEmpty = new Json(Json::object());
  const Json* value = Find(key);
  if (value != nullptr && !value->is_object()) {
    Expected(key, "an object", value);
    value = nullptr;
  }
  return ConfigReader(value == nullptr ? *kEmpty : *value, absl::StrCat(what_, ": ", key));
}

void ConfigReader::Merge(const ConfigReader& inner) {
  invalid_.insert(invalid_.end(), inner.invalid_.begin(), inner.invalid_.end());
  unsupported_.insert(unsupported_.end(), inner.unsupported_.begin(), inner.unsupported_.end());
  warnings_.insert(warnings_.end(), inner.warnings_.begin(), inner.warnings_.end());
}

void ConfigReader::Invalid(absl::string_view message) {
  std::string complaint = absl::StrCat(what_, ": ", message);
  // A key that is read twice is wrong once.
  if (std::find(invalid_.begin(), invalid_.end(), complaint) == invalid_.end())
    invalid_.push_back(std::move(complaint));
}
void ConfigReader::Unsupported(absl::string_view message) {
  unsupported_.push_back(absl::StrCat(what_, ": ", message));
}

void ConfigReader::JudgeUnreadKeys() {
  for (const auto& [key, value] : config_->items()) {
    const absl::string_view name = key;
    if (read_.count(key) > 0) continue;
    if (std::find(std::begin(kInert), std::end(kInert), name) != std::end(kInert)) continue;
    // The head of GPT2DoubleHeadsModel, which is not served.
    if (absl::StartsWith(name, "summary_")) continue;
    const ChangingKey* changing = std::find_if(std::begin(kChanging), std::end(kChanging),
                                               [name](const ChangingKey& c) { return c.key == name; });
    if (changing != std::end(kChanging)) {
      if (!IsNeutral(value, changing->neutral)) {
        Unsupported(absl::StrCat(name, " = ", JsonExcerpt(value), " changes the computation and is not supported"));
      }
      continue;
    }
    warnings_.push_back(absl::StrCat(what_, ": unknown key ", Printable(name), " is ignored"));
  }
}

absl::Status ConfigReader::status() const {
  std::vector<std::string> all = invalid_;
  all.insert(all.end(), unsupported_.begin(), unsupported_.end());
  if (all.empty()) return absl::OkStatus();
  const std::string message = absl::StrJoin(all, "; ");
  return invalid_.empty() ? absl::UnimplementedError(message) : absl::InvalidArgumentError(message);
}

}  // namespace causeway
