#include "engine/architecture/decoder.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/architecture/parts.h"
#include "engine/architecture/rope.h"

namespace causeway {
namespace {

struct Sizes {
  double eps = 0;
  ActivationInfo activation;
  std::vector<int64_t> windows;  // of each layer
};

bool HasExperts(const DecoderTraits& traits, int64_t layer) {
  return traits.experts && (!traits.experts->sparse || traits.experts->sparse(layer));
}

Sizes ReadSizes(ConfigReader& config, const DecoderTraits& traits, ModelSpec& spec) {
  Sizes sizes;
  spec.vocab_size = config.Int("vocab_size", 1, kVocabularyMax);
  spec.hidden_size = config.Int("hidden_size", 1, kWidthMax);
  spec.intermediate_size = config.Int("intermediate_size", 1, kWidthMax);
  spec.heads = config.Int("num_attention_heads", 1, kWidthMax);
  spec.kv_heads = config.Int("num_key_value_heads", 1, kWidthMax, spec.heads);
  const int64_t layers = config.Int("num_hidden_layers", 1, kLayersMax);
  sizes.windows = WindowsOfLayers(config, traits.windows, layers);
  spec.context_max = config.Int("max_position_embeddings", 1, kContextMax, traits.context_max);
  sizes.eps = config.Positive("rms_norm_eps", traits.eps);
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
    config.Invalid(absl::StrCat("num_attention_heads * head_dim: expected at most ", kWidthMax, ", found ", spec.heads,
                                " * ", spec.head_dim));
  }
  if (traits.experts && layers > kAllExpertsMax / traits.experts->count) {
    config.Invalid(absl::StrCat("num_hidden_layers: expected at most ", kAllExpertsMax,
                                " experts in all layers together, found ", layers, " * ", traits.experts->count));
  }
  if (!config.ok()) return sizes;
  spec.rope = ReadRope(config, {.head_dim = spec.head_dim,
                                .max_positions = spec.context_max,
                                .theta = traits.theta,
                                .partial = traits.partial_rotary});
  const double stretched = static_cast<double>(spec.context_max) * spec.rope.stretch;
  spec.context_max = static_cast<int64_t>(std::min(stretched, static_cast<double>(kContextMax)));
  return sizes;
}

AttentionSpec MakeAttention(const ModelSpec& spec, const DecoderTraits& traits, const Sizes& sizes,
                            const std::string& path) {
  const int64_t queries = spec.heads * spec.head_dim, keys = spec.kv_heads * spec.head_dim;
  AttentionSpec attention;
  attention.qkv = {.parts = {LinearPart(path + ".q_proj", queries, traits.qkv_bias),
                             LinearPart(path + ".k_proj", keys, traits.qkv_bias),
                             LinearPart(path + ".v_proj", keys, traits.qkv_bias)},
                   .in_features = spec.hidden_size};
  attention.output = {.parts = {LinearPart(path + ".o_proj", spec.hidden_size, traits.output_bias)},
                      .in_features = queries};
  attention.scale = 1 / std::sqrt(static_cast<double>(spec.head_dim));
  if (traits.query_key_norms != QueryKeyNorms::kNone) {
    attention.norms = {.query = Norm(NormKind::kRms, path + ".q_norm", sizes.eps),
                       .key = Norm(NormKind::kRms, path + ".k_norm", sizes.eps),
                       .per_head = traits.query_key_norms == QueryKeyNorms::kPerHead};
  }
  return attention;
}

LayerSpec MakeLayer(const ModelSpec& spec, const DecoderTraits& traits, const Sizes& sizes, int64_t index) {
  LayerSpec layer;
  const std::string path = layer.path = absl::StrCat("model.layers.", index);
  layer.attention_norm = Norm(NormKind::kRms, path + ".input_layernorm", sizes.eps);
  layer.attention = MakeAttention(spec, traits, sizes, path + ".self_attn");
  layer.attention.sliding_window = sizes.windows[index];
  layer.mlp_norm = Norm(NormKind::kRms, path + ".post_attention_layernorm", sizes.eps);
  if (HasExperts(traits, index)) {
    layer.moe = MakeMoe(*traits.experts, spec.hidden_size, sizes.activation.activation, path);
    return layer;
  }
  const std::string mlp = path + ".mlp";
  layer.mlp.gated = true;
  layer.mlp.up = {.parts = {LinearPart(mlp + ".gate_proj", spec.intermediate_size, traits.mlp_bias),
                            LinearPart(mlp + ".up_proj", spec.intermediate_size, traits.mlp_bias)},
                  .in_features = spec.hidden_size};
  layer.mlp.down = {.parts = {LinearPart(mlp + ".down_proj", spec.hidden_size, traits.mlp_bias)},
                    .in_features = spec.intermediate_size};
  layer.mlp.activation = sizes.activation.activation;
  return layer;
}

Module NormModule(const DecoderTraits& traits, const char* name, int64_t width, DType dtype) {
  return Leaf(name, traits.kind + "RMSNorm", {{.name = "weight", .dtype = dtype, .shape = {width}}});
}

Module MakeBlock(const ModelSpec& spec, const DecoderTraits& traits, const Sizes& sizes, DType dtype, int64_t index) {
  const int64_t hidden = spec.hidden_size, inner = spec.intermediate_size;
  const int64_t queries = spec.heads * spec.head_dim, keys = spec.kv_heads * spec.head_dim;
  Module attention = Leaf("self_attn", traits.kind + "Attention");
  attention.children = {LinearModule("q_proj", hidden, queries, traits.qkv_bias, dtype),
                        LinearModule("k_proj", hidden, keys, traits.qkv_bias, dtype),
                        LinearModule("v_proj", hidden, keys, traits.qkv_bias, dtype),
                        LinearModule("o_proj", queries, hidden, traits.output_bias, dtype)};
  if (traits.query_key_norms != QueryKeyNorms::kNone) {
    const bool per_head = traits.query_key_norms == QueryKeyNorms::kPerHead;
    attention.children.push_back(NormModule(traits, "q_norm", per_head ? spec.head_dim : queries, dtype));
    attention.children.push_back(NormModule(traits, "k_norm", per_head ? spec.head_dim : keys, dtype));
  }
  Module block = Leaf(absl::StrCat(index), traits.kind + "DecoderLayer");
  block.block = true;
  block.children.reserve(4);
  block.children.push_back(std::move(attention));
  if (HasExperts(traits, index)) {
    block.children.push_back(MoeModule(*traits.experts, hidden, traits.kind, sizes.activation.kind, dtype));
  } else {
    Module mlp = Leaf("mlp", traits.kind + "MLP");
    mlp.children = {LinearModule("gate_proj", hidden, inner, traits.mlp_bias, dtype),
                    LinearModule("up_proj", hidden, inner, traits.mlp_bias, dtype),
                    LinearModule("down_proj", inner, hidden, traits.mlp_bias, dtype),
                    Leaf("act_fn", sizes.activation.kind)};
    block.children.push_back(std::move(mlp));
  }
  block.children.push_back(NormModule(traits, "input_layernorm", hidden, dtype));
  block.children.push_back(NormModule(traits, "post_attention_layernorm", hidden, dtype));
  return block;
}

Module RotaryModule(const DecoderTraits& traits, int64_t frequencies) {
  return Leaf("rotary_emb", traits.kind + "RotaryEmbedding",
              {{.name = "inv_freq", .dtype = DType::kF32, .shape = {frequencies}, .buffer = true},
               {.name = "original_inv_freq", .dtype = DType::kF32, .shape = {frequencies}, .buffer = true}});
}

}  // namespace

ModelSpec MakeDecoder(ConfigReader& config, DType dtype, const DecoderTraits& traits) {
  ModelSpec spec;
  const Sizes sizes = ReadSizes(config, traits, spec);
  const bool tied = config.Bool("tie_word_embeddings", false);
  if (!config.ok()) return spec;

  spec.embedding_path = "model.embed_tokens";
  spec.embedding_weight = "model.embed_tokens.weight";
  spec.final_norm_path = "model.norm";
  spec.final_norm = Norm(NormKind::kRms, "model.norm", sizes.eps);
  spec.inert_tensors = {"model.layers.#.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"};
  if (traits.experts) AddStackedSpellings(*traits.experts, spec);
  Module layers = Leaf("layers", "ModuleList");
  const int64_t count = static_cast<int64_t>(sizes.windows.size());
  spec.layers.reserve(count);
  layers.children.reserve(count);
  for (int64_t i = 0; i < count; ++i) {
    spec.layers.push_back(MakeLayer(spec, traits, sizes, i));
    layers.children.push_back(MakeBlock(spec, traits, sizes, dtype, i));
  }

  Module model = Leaf("model", traits.kind + "Model");
  model.children.reserve(4);
  model.children.push_back(EmbeddingModule("embed_tokens", spec.vocab_size, spec.hidden_size, dtype));
  model.children.push_back(std::move(layers));
  model.children.push_back(NormModule(traits, "norm", spec.hidden_size, dtype));
  model.children.push_back(RotaryModule(traits, static_cast<int64_t>(spec.rope.inv_freq.size())));
  spec.modules = Leaf("", traits.kind + "ForCausalLM");
  spec.modules.children.push_back(std::move(model));
  AddHead(spec, "lm_head", tied, dtype);
  return spec;
}

}  // namespace causeway
