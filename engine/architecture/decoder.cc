#include "engine/architecture/decoder.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/architecture/parts.h"
#include "engine/architecture/rope.h"

namespace causeway {
namespace {

struct Sizes {
  double eps = 0;
  ActivationInfo activation;
  int64_t layers = 0;
};

Sizes ReadSizes(ConfigReader& config, const DecoderTraits& traits, ModelSpec& spec) {
  Sizes sizes;
  spec.vocab_size = config.Int("vocab_size", 1, kVocabularyMax);
  spec.hidden_size = config.Int("hidden_size", 1, kWidthMax);
  spec.intermediate_size = config.Int("intermediate_size", 1, kWidthMax);
  spec.heads = config.Int("num_attention_heads", 1, kWidthMax);
  spec.kv_heads = config.Int("num_key_value_heads", 1, kWidthMax, spec.heads);
  sizes.layers = config.Int("num_hidden_layers", 1, kLayersMax);
  spec.context_max = config.Int("max_position_embeddings", 1, kContextMax, 2048);
  sizes.eps = config.Positive("rms_norm_eps", 1e-6);
  sizes.activation = ReadActivation(config, "hidden_act", "silu");
  const std::optional<int64_t> head_dim = config.OptionalInt("head_dim", 1, kWidthMax);
  if (!config.ok()) return sizes;  // what follows compares sizes with each other

  if (!head_dim && spec.hidden_size % spec.heads != 0) {
    config.Invalid(absl::StrCat("hidden_size: expected a multiple of num_attention_heads (", spec.heads,
                                ") where head_dim is not given, found ", spec.hidden_size));
  }
  spec.head_dim = head_dim.value_or(spec.hidden_size / spec.heads);
  if (spec.heads % spec.kv_heads != 0) {
    config.Invalid(absl::StrCat("num_attention_heads: expected a multiple of num_key_value_heads (", spec.kv_heads,
                                "), found ", spec.heads));
  }
  if (config.ok() && spec.heads > kWidthMax / spec.head_dim) {
    config.Invalid(absl::StrCat("num_attention_heads * head_dim: expected at most ", kWidthMax, ", found ",
                                spec.heads, " * ", spec.head_dim));
  }
  if (!config.ok()) return sizes;
  spec.rope = ReadRope(
      config, {.head_dim = spec.head_dim, .max_positions = spec.context_max, .partial = traits.partial_rotary});
  // Dynamic scaling is for texts beyond max_position_embeddings, which names the original context.
  if (spec.rope.dynamic_factor > 0) {
    const double stretched = static_cast<double>(spec.context_max) * spec.rope.dynamic_factor;
    spec.context_max = static_cast<int64_t>(std::min(stretched, static_cast<double>(kContextMax)));
  }
  return sizes;
}

LayerSpec MakeLayer(const ModelSpec& spec, const DecoderTraits& traits, const Sizes& sizes, const std::string& path) {
  const int64_t queries = spec.heads * spec.head_dim, keys = spec.kv_heads * spec.head_dim;
  LayerSpec layer;
  layer.path = path;
  layer.attention_norm = Norm(NormKind::kRms, path + ".input_layernorm", sizes.eps);
  layer.mlp_norm = Norm(NormKind::kRms, path + ".post_attention_layernorm", sizes.eps);
  const std::string attention = path + ".self_attn", mlp = path + ".mlp";
  layer.attention.qkv = {.parts = {LinearPart(attention + ".q_proj", queries, traits.qkv_bias),
                                   LinearPart(attention + ".k_proj", keys, traits.qkv_bias),
                                   LinearPart(attention + ".v_proj", keys, traits.qkv_bias)},
                         .in_features = spec.hidden_size};
  layer.attention.output = {.parts = {LinearPart(attention + ".o_proj", spec.hidden_size, traits.output_bias)},
                            .in_features = queries};
  layer.attention.scale = 1 / std::sqrt(static_cast<double>(spec.head_dim));
  layer.attention.sliding_window = traits.sliding_window;
  layer.mlp.gated = true;
  layer.mlp.up = {.parts = {LinearPart(mlp + ".gate_proj", spec.intermediate_size, traits.mlp_bias),
                            LinearPart(mlp + ".up_proj", spec.intermediate_size, traits.mlp_bias)},
                  .in_features = spec.hidden_size};
  layer.mlp.down = {.parts = {LinearPart(mlp + ".down_proj", spec.hidden_size, traits.mlp_bias)},
                    .in_features = spec.intermediate_size};
  layer.mlp.activation = sizes.activation.activation;
  return layer;
}

Module MakeBlock(const ModelSpec& spec, const DecoderTraits& traits, const Sizes& sizes, DType dtype,
                 const std::string& name) {
  const int64_t hidden = spec.hidden_size, inner = spec.intermediate_size;
  const int64_t queries = spec.heads * spec.head_dim, keys = spec.kv_heads * spec.head_dim;
  const auto norm = [&](const char* norm_name) {
    return Leaf(norm_name, traits.kind + "RMSNorm", {{.name = "weight", .dtype = dtype, .shape = {hidden}}});
  };
  Module attention = Leaf("self_attn", traits.kind + "Attention");
  attention.children = {LinearModule("q_proj", hidden, queries, traits.qkv_bias, dtype),
                        LinearModule("k_proj", hidden, keys, traits.qkv_bias, dtype),
                        LinearModule("v_proj", hidden, keys, traits.qkv_bias, dtype),
                        LinearModule("o_proj", queries, hidden, traits.output_bias, dtype)};
  Module mlp = Leaf("mlp", traits.kind + "MLP");
  mlp.children = {LinearModule("gate_proj", hidden, inner, traits.mlp_bias, dtype),
                  LinearModule("up_proj", hidden, inner, traits.mlp_bias, dtype),
                  LinearModule("down_proj", inner, hidden, traits.mlp_bias, dtype),
                  Leaf("act_fn", sizes.activation.kind)};
  Module block = Leaf(name, traits.kind + "DecoderLayer");
  block.block = true;
  block.children = {std::move(attention), std::move(mlp), norm("input_layernorm"), norm("post_attention_layernorm")};
  return block;
}

}  // namespace

ModelSpec MakeDecoder(ConfigReader& config, DType dtype, const DecoderTraits& traits) {
  ModelSpec spec;
  const Sizes sizes = ReadSizes(config, traits, spec);
  const bool tied = config.Bool("tie_word_embeddings", traits.tied_head);
  if (!config.ok()) return spec;

  spec.embedding_path = "model.embed_tokens";
  spec.embedding_weight = "model.embed_tokens.weight";
  spec.final_norm_path = "model.norm";
  spec.final_norm = Norm(NormKind::kRms, "model.norm", sizes.eps);
  spec.inert_tensors = {"model.layers.#.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"};
  Module layers = Leaf("layers", "ModuleList");
  for (int64_t i = 0; i < sizes.layers; ++i) {
    spec.layers.push_back(MakeLayer(spec, traits, sizes, absl::StrCat("model.layers.", i)));
    layers.children.push_back(MakeBlock(spec, traits, sizes, dtype, absl::StrCat(i)));
  }

  const int64_t frequencies = static_cast<int64_t>(spec.rope.inv_freq.size());
  Module model = Leaf("model", traits.kind + "Model");
  model.children = {
      EmbeddingModule("embed_tokens", spec.vocab_size, spec.hidden_size, dtype), std::move(layers),
      Leaf("norm", traits.kind + "RMSNorm", {{.name = "weight", .dtype = dtype, .shape = {spec.hidden_size}}}),
      Leaf("rotary_emb", traits.kind + "RotaryEmbedding",
           {{.name = "inv_freq", .dtype = DType::kF32, .shape = {frequencies}, .buffer = true},
            {.name = "original_inv_freq", .dtype = DType::kF32, .shape = {frequencies}, .buffer = true}})};
  spec.modules = Leaf("", traits.kind + "ForCausalLM");
  spec.modules.children.push_back(std::move(model));
  AddHead(spec, "lm_head", tied, dtype);
  return spec;
}

}  // namespace causeway
