#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/architecture/architectures.h"
#include "engine/architecture/parts.h"

namespace causeway {
namespace {

struct Sizes {
  int64_t layers = 0;
  double eps = 0;
  ActivationInfo activation;
  bool scale = true, scale_by_layer = false;
};

Sizes ReadSizes(ConfigReader& config, ModelSpec& spec) {
  Sizes sizes;
  spec.vocab_size = config.Int("vocab_size", 1, kVocabularyMax);
  spec.hidden_size = config.Int("n_embd|hidden_size", 1, kWidthMax);
  spec.heads = spec.kv_heads = config.Int("n_head|num_attention_heads", 1, kWidthMax);
  sizes.layers = config.Int("n_layer|num_hidden_layers", 1, kLayersMax);
  spec.context_max = config.Int("n_positions|max_position_embeddings", 1, kVocabularyMax, 1024);
  spec.intermediate_size = config.Int("n_inner", 1, 4 * kWidthMax, 4 * spec.hidden_size);
  sizes.eps = config.Positive("layer_norm_epsilon", 1e-5);
  sizes.activation = ReadActivation(config, "activation_function", "gelu_new");
  sizes.scale = config.Bool("scale_attn_weights", true);
  sizes.scale_by_layer = config.Bool("scale_attn_by_inverse_layer_idx", false);
  // The same sums, the products of queries and keys in float32: attention accumulates in float32 here anyway.
  config.Bool("reorder_and_upcast_attn", false);
  if (config.ok() && spec.hidden_size % spec.heads != 0) {
    config.Invalid(absl::StrCat("n_embd: expected a multiple of n_head (", spec.heads, "), found ", spec.hidden_size));
  }
  spec.head_dim = spec.hidden_size / spec.heads;
  return sizes;
}

LayerSpec MakeLayer(const ModelSpec& spec, const Sizes& sizes, int64_t index) {
  const std::string path = absl::StrCat("transformer.h.", index);
  LayerSpec layer;
  layer.path = path;
  layer.attention_norm = Norm(NormKind::kLayer, path + ".ln_1", sizes.eps);
  layer.mlp_norm = Norm(NormKind::kLayer, path + ".ln_2", sizes.eps);
  const auto linear = [&path](const char* name, int64_t in, int64_t out) {
    return LinearSpec{.parts = {LinearPart(absl::StrCat(path, ".", name), out, /*bias=*/true)},
                      .in_features = in,
                      .transposed = true};
  };
  layer.attention.qkv = linear("attn.c_attn", spec.hidden_size, 3 * spec.hidden_size);
  layer.attention.output = linear("attn.c_proj", spec.hidden_size, spec.hidden_size);
  layer.attention.scale = sizes.scale ? 1 / std::sqrt(static_cast<double>(spec.head_dim)) : 1;
  if (sizes.scale_by_layer) layer.attention.scale /= static_cast<double>(index + 1);
  layer.mlp.up = linear("mlp.c_fc", spec.hidden_size, spec.intermediate_size);
  layer.mlp.down = linear("mlp.c_proj", spec.intermediate_size, spec.hidden_size);
  layer.mlp.activation = sizes.activation.activation;
  return layer;
}

Module LayerNorm(std::string name, int64_t width, DType dtype) {
  return Leaf(
      std::move(name), "LayerNorm",
      {{.name = "weight", .dtype = dtype, .shape = {width}}, {.name = "bias", .dtype = dtype, .shape = {width}}});
}

Module MakeBlock(const ModelSpec& spec, const Sizes& sizes, DType dtype, const std::string& name) {
  const int64_t hidden = spec.hidden_size, inner = spec.intermediate_size;
  const auto conv = [dtype](const char* conv_name, int64_t in, int64_t out) {
    return LinearModule(conv_name, in, out, /*bias=*/true, dtype, /*transposed=*/true);
  };
  Module attention = Leaf("attn", "GPT2Attention");
  attention.children = {conv("c_attn", hidden, 3 * hidden), conv("c_proj", hidden, hidden),
                        Leaf("attn_dropout", "Dropout"), Leaf("resid_dropout", "Dropout")};
  Module mlp = Leaf("mlp", "GPT2MLP");
  mlp.children = {conv("c_fc", hidden, inner), conv("c_proj", inner, hidden), Leaf("act", sizes.activation.kind),
                  Leaf("dropout", "Dropout")};
  Module block = Leaf(name, "GPT2Block");
  block.block = true;
  block.children = {LayerNorm("ln_1", hidden, dtype), std::move(attention), LayerNorm("ln_2", hidden, dtype),
                    std::move(mlp)};
  return block;
}

}  // namespace

ModelSpec MakeGpt2(ConfigReader& config, DType dtype) {
  ModelSpec spec;
  const Sizes sizes = ReadSizes(config, spec);
  const bool tied = config.Bool("tie_word_embeddings", true);
  if (!config.ok()) return spec;

  spec.embedding_path = "transformer.wte";
  spec.embedding_weight = "transformer.wte.weight";
  spec.position_embedding_path = "transformer.wpe";
  spec.position_weight = "transformer.wpe.weight";
  spec.final_norm_path = "transformer.ln_f";
  spec.final_norm = Norm(NormKind::kLayer, "transformer.ln_f", sizes.eps);
  // The causal mask and its fill value, as older versions saved them.
  spec.inert_tensors = {"transformer.h.#.attn.bias", "transformer.h.#.attn.masked_bias"};
  Module blocks = Leaf("h", "ModuleList");
  for (int64_t i = 0; i < sizes.layers; ++i) {
    spec.layers.push_back(MakeLayer(spec, sizes, i));
    blocks.children.push_back(MakeBlock(spec, sizes, dtype, absl::StrCat(i)));
  }
  Module model = Leaf("transformer", "GPT2Model");
  model.children = {EmbeddingModule("wte", spec.vocab_size, spec.hidden_size, dtype),
                    EmbeddingModule("wpe", spec.context_max, spec.hidden_size, dtype), Leaf("drop", "Dropout"),
                    std::move(blocks), LayerNorm("ln_f", spec.hidden_size, dtype)};
  spec.modules = Leaf("", "GPT2LMHeadModel");
  spec.modules.children.push_back(std::move(model));
  AddHead(spec, "lm_head", tied, dtype);
  return spec;
}

}  // namespace causeway
