// What each architecture makes of its config.json, in the published spelling and in the newer one.
#include <algorithm>
#include <ctime>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/architecture/registry.h"
#include "engine/checkpoint/json.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Whole files as published, with all that they hold beyond the computation, but for the sizes of the experts.
constexpr char kMistral[] =
    R"({"architectures": ["MistralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
  "head_dim": 128, "hidden_act": "silu", "hidden_size": 5120, "initializer_range": 0.02, "intermediate_size": 14336,
  "max_position_embeddings": 131072, "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 40,
  "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "sliding_window": null, "tie_word_embeddings": false,
  "torch_dtype": "bfloat16", "transformers_version": "4.43.0.dev0", "use_cache": true, "vocab_size": 131072})";
constexpr char kQwen2[] = R"({"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
  "eos_token_id": 151645, "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02, "intermediate_size": 4864,
  "max_position_embeddings": 32768, "max_window_layers": 21, "model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 24,
  "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": true,
  "torch_dtype": "bfloat16", "transformers_version": "4.43.1", "use_cache": true, "use_mrope": false, "use_sliding_window": false,
  "vocab_size": 151936})";
constexpr char kQwen3[] = R"({"architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
  "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024,
  "initializer_range": 0.02, "intermediate_size": 3072, "max_position_embeddings": 40960, "max_window_layers": 28,
  "model_type": "qwen3", "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-06,
  "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
  "transformers_version": "4.51.0", "use_cache": true, "use_sliding_window": false, "vocab_size": 151936})";
constexpr char kMixtral[] =
    R"({"architectures": ["MixtralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
  "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 32768,
  "model_type": "mixtral", "num_attention_heads": 32, "num_experts_per_tok": 2, "num_hidden_layers": 32, "num_key_value_heads": 8,
  "num_local_experts": 8, "output_router_logits": false, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.02,
  "sliding_window": null, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.36.0.dev0",
  "use_cache": true, "vocab_size": 32000})";
constexpr char kQwen3Moe[] =
    R"({"architectures": ["Qwen3MoeForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
  "bos_token_id": 151643, "decoder_sparse_step": 1, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 2048,
  "initializer_range": 0.02, "intermediate_size": 6144, "max_position_embeddings": 40960, "max_window_layers": 48,
  "mlp_only_layers": [], "model_type": "qwen3_moe", "moe_intermediate_size": 768, "norm_topk_prob": true, "num_attention_heads": 32,
  "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_key_value_heads": 4, "output_router_logits": false,
  "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.001, "sliding_window": null,
  "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.51.0", "use_cache": true,
  "use_sliding_window": false, "vocab_size": 151936})";
// Without its quantization_config.
std::string MiniMaxM2() {
  Json config = Json::parse(R"({"architectures": ["MiniMaxM2ForCausalLM"], "attention_dropout": 0.0,
  "auto_map": {"AutoConfig": "configuration_minimax_m2.MiniMaxM2Config", "AutoModelForCausalLM": "modeling_minimax_m2.MiniMaxM2ForCausalLM"},
  "bos_token_id": null, "eos_token_id": null, "head_dim": 128, "hidden_act": "silu", "hidden_size": 3072, "initializer_range": 0.02,
  "intermediate_size": 1536, "layernorm_full_attention_beta": 1.0, "layernorm_linear_attention_beta": 1.0, "layernorm_mlp_beta": 1.0,
  "max_position_embeddings": 196608, "mlp_intermediate_size": 8192, "model_type": "minimax_m2", "mtp_transformer_layers": 1,
  "num_attention_heads": 48, "num_experts_per_tok": 8, "num_hidden_layers": 62, "num_key_value_heads": 8, "num_local_experts": 256,
  "num_mtp_modules": 3, "output_router_logits": false, "qk_norm_type": "per_layer", "rms_norm_eps": 1e-06, "rope_theta": 5000000,
  "rotary_dim": 64, "router_aux_loss_coef": 0.001, "router_jitter_noise": 0.0, "scoring_func": "sigmoid", "shared_intermediate_size": 0,
  "shared_moe_mode": "sigmoid", "sliding_window": null, "tie_word_embeddings": false, "transformers_version": "4.46.1", "use_cache": true,
  "use_mtp": true, "use_qk_norm": true, "use_routing_bias": true, "vocab_size": 200064})");
  config["attn_type_list"] = std::vector<int>(62, 1);
  return config.dump();
}

absl::StatusOr<ModelSpec> Read(const std::string& config, const std::string& changes) {
  Json merged = Json::parse(config);
  merged.update(Json::parse(changes));
  return MakeModelSpec(merged, Json::object(), DType::kBF16);
}
ModelSpec Make(const std::string& config, const std::string& changes = "{}") {
  const auto spec = Read(config, changes);
  EXPECT_TRUE(spec.ok()) << spec.status();
  return spec.ok() ? *spec : ModelSpec();
}
std::string Error(const std::string& config, const std::string& changes,
                  absl::StatusCode code = absl::StatusCode::kUnimplemented) {
  const absl::Status status = Read(config, changes).status();
  EXPECT_EQ(status.code(), code) << status;
  return std::string(status.message());
}
// For windows: few layers.
std::string Short(const char* config, int layers = 4) {
  Json json = Json::parse(config);
  json["num_hidden_layers"] = layers;
  return json.dump();
}
std::vector<int64_t> WindowsOf(const ModelSpec& spec) {
  std::vector<int64_t> windows;
  for (const LayerSpec& layer : spec.layers) windows.push_back(layer.attention.sliding_window);
  return windows;
}

TEST(ArchitecturesTest, PublishedConfigsGiveNoWarningAndTheirCounts) {
  const std::pair<std::string, int64_t> published[] = {{kMistral, 12'247'782'400},  {kQwen2, 494'032'768},
                                                       {kQwen3, 596'049'920},       {kMixtral, 46'702'792'704},
                                                       {kQwen3Moe, 30'532'122'624}, {MiniMaxM2(), 228'689'748'992}};
  for (const auto& [config, count] : published) {
    const ModelSpec spec = Make(config);
    EXPECT_EQ(spec.parameter_count(), count) << spec.architecture;
    EXPECT_THAT(spec.warnings, IsEmpty());
  }
}

TEST(ArchitecturesTest, TensOfThousandsOfExpertsTakeMilliseconds) {
  const Json config = Json::parse(MiniMaxM2());
  double least = 1e9;  // of processor time: other programs share the machine
  for (int i = 0; i < 3; ++i) {
    const std::clock_t begin = std::clock();
    ASSERT_TRUE(MakeModelSpec(config, Json::object(), DType::kBF16).ok());
    least = std::min(least, 1e3 * static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC);
  }
  RecordProperty("milliseconds", std::to_string(least));
  EXPECT_LT(least, 200) << "far above what it takes, for builds with sanitizers";
}

TEST(ArchitecturesTest, Mistral) {
  const ModelSpec nemo = Make(kMistral);
  EXPECT_EQ(nemo.head_dim, 128);
  EXPECT_EQ(nemo.rope.theta, 1e6);
  EXPECT_THAT(nemo.eos_token_ids, ElementsAre(2));
  EXPECT_EQ(nemo.layers[0].attention.qkv.parts[0].bias, "");
  const std::string small = Short(kMistral, 2);
  EXPECT_THAT(WindowsOf(Make(small)), ElementsAre(0, 0)) << "null: none";
  EXPECT_THAT(WindowsOf(Make(small, R"({"sliding_window": 4096})")), ElementsAre(4096, 4096));
  Json without = Json::parse(small);
  without.erase("sliding_window");
  EXPECT_THAT(WindowsOf(Make(without.dump())), ElementsAre(4096, 4096)) << "the class's default";
  EXPECT_THAT(
      WindowsOf(Make(small, R"({"sliding_window": 9, "layer_types": ["sliding_attention", "sliding_attention"]})")),
      ElementsAre(9, 9));
  EXPECT_THAT(Error(small, R"({"sliding_window": 9, "layer_types": ["sliding_attention", "full_attention"]})"),
              HasSubstr("layer_types: layer 1 is \"full_attention\", which is not supported here: every layer has the "
                        "sliding window"));
  EXPECT_THAT(Error(small, R"({"sliding_window": 0})", absl::StatusCode::kInvalidArgument),
              HasSubstr("sliding_window: expected"));
  EXPECT_THAT(Error(small, R"({"attention_bias": true})"), HasSubstr("attention_bias = true changes the computation"));
}

TEST(ArchitecturesTest, Qwen2) {
  const ModelSpec spec = Make(kQwen2);
  EXPECT_TRUE(spec.tied_head);
  EXPECT_EQ(spec.layers[3].attention.qkv.parts[2].bias, "model.layers.3.self_attn.v_proj.bias");
  EXPECT_EQ(spec.layers[3].attention.output.parts[0].bias, "");
  for (const char* changes : {R"({"attention_bias": true})", R"({"attention_bias": false})"}) {
    const AttentionSpec attention = Make(kQwen2, changes).layers[3].attention;
    EXPECT_NE(attention.qkv.parts[2].bias, "") << "the field's class does not read it";
    EXPECT_EQ(attention.output.parts[0].bias, "");
  }
  Json no_eos = Json::parse(kQwen2);
  no_eos.erase("eos_token_id");
  EXPECT_THAT(Make(no_eos.dump()).eos_token_ids, IsEmpty());
  for (const char* config : {kQwen2, kQwen3}) {
    const std::string small = Short(config);
    EXPECT_THAT(WindowsOf(Make(small, R"({"sliding_window": 50})")), ElementsAre(0, 0, 0, 0)) << "switched off";
    EXPECT_THAT(WindowsOf(Make(small, R"({"use_sliding_window": true, "sliding_window": 50, "max_window_layers": 3})")),
                ElementsAre(0, 0, 0, 50));
    EXPECT_THAT(WindowsOf(Make(small, R"({"use_sliding_window": true, "sliding_window": null})")),
                ElementsAre(0, 0, 0, 0));
    const std::string mixed =
        R"("layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]})";
    EXPECT_THAT(WindowsOf(Make(small, R"({"use_sliding_window": true, "sliding_window": 50, )" + mixed)),
                ElementsAre(50, 0, 50, 0));
    EXPECT_THAT(Error(small, R"({"sliding_window": 50, )" + mixed, absl::StatusCode::kInvalidArgument),
                HasSubstr("layer_types: layer 0 is \"sliding_attention\", but there is no sliding window"));
  }
}

TEST(ArchitecturesTest, Qwen3) {
  const ModelSpec spec = Make(kQwen3);
  const auto& norms = spec.layers[5].attention.norms;
  ASSERT_TRUE(norms.has_value());
  EXPECT_TRUE(norms->per_head);
  EXPECT_EQ(norms->query.weight, "model.layers.5.self_attn.q_norm.weight");
  EXPECT_EQ(norms->key.weight, "model.layers.5.self_attn.k_norm.weight");
  EXPECT_EQ(norms->key.eps, 1e-6);
  EXPECT_EQ(Make(kQwen3, R"({"attention_bias": true})").layers[0].attention.output.parts[0].bias,
            "model.layers.0.self_attn.o_proj.bias");
}

TEST(ArchitecturesTest, Mixtral) {
  const ModelSpec spec = Make(kMixtral);
  const auto& moe = spec.layers[31].moe;
  ASSERT_TRUE(moe.has_value());
  EXPECT_EQ(moe->router.parts[0].weight, "model.layers.31.block_sparse_moe.gate.weight");
  ASSERT_EQ(moe->experts.size(), 8u);
  EXPECT_EQ(moe->experts[7].up.parts[0].weight, "model.layers.31.block_sparse_moe.experts.7.w1.weight");
  EXPECT_EQ(moe->experts[7].up.parts[1].weight, "model.layers.31.block_sparse_moe.experts.7.w3.weight");
  EXPECT_EQ(moe->experts[7].down.parts[0].weight, "model.layers.31.block_sparse_moe.experts.7.w2.weight");
  EXPECT_TRUE(moe->experts[7].gated);
  EXPECT_EQ(moe->rule.experts_per_token, 2);
  EXPECT_EQ(moe->rule.score, RouterScore::kSoftmax);
  EXPECT_TRUE(moe->rule.normalize);
  EXPECT_EQ(moe->correction_bias, "");
  EXPECT_THAT(WindowsOf(Make(Short(kMixtral, 1), R"({"sliding_window": 4096})")), ElementsAre(4096));
  EXPECT_THAT(Error(kMixtral, R"({"num_experts_per_tok": 9})", absl::StatusCode::kInvalidArgument),
              HasSubstr("num_experts_per_tok: expected at most the number of experts (8), found 9"));
  EXPECT_THAT(Error(kMixtral, R"({"scoring_func": "sigmoid"})"), HasSubstr("scoring_func = \"sigmoid\""));
  EXPECT_THAT(
      Error(kMixtral, R"({"num_hidden_layers": 8192, "num_local_experts": 4096})", absl::StatusCode::kInvalidArgument),
      HasSubstr("num_hidden_layers: expected at most 262144 experts in all layers together, found 8192 * 4096"));
}

TEST(ArchitecturesTest, Qwen3Moe) {
  const std::string small = Short(kQwen3Moe, 5);
  const ModelSpec spec = Make(small, R"({"decoder_sparse_step": 2, "mlp_only_layers": [3], "norm_topk_prob": false})");
  std::vector<bool> sparse;
  for (const LayerSpec& layer : spec.layers) sparse.push_back(layer.moe.has_value());
  EXPECT_THAT(sparse, ElementsAre(false, true, false, false, false));
  EXPECT_EQ(spec.layers[0].mlp.down.in_features, 6144);
  const MoeSpec& moe = *spec.layers[1].moe;
  EXPECT_EQ(moe.experts.size(), 128u);
  EXPECT_EQ(moe.experts[9].down.in_features, 768);
  EXPECT_EQ(moe.experts[9].up.parts[1].weight, "model.layers.1.mlp.experts.9.up_proj.weight");
  EXPECT_EQ(moe.rule.experts_per_token, 8);
  EXPECT_FALSE(moe.rule.normalize);
  EXPECT_TRUE(Make(small).layers[0].moe->rule.normalize);
  Json newer = Json::parse(small);
  newer["num_local_experts"] = 16;
  newer.erase("num_experts");
  EXPECT_EQ(Make(newer.dump()).layers[0].moe->experts.size(), 16u) << "as transformers 5 writes it";
  newer.erase("max_window_layers");
  newer["use_sliding_window"] = true;
  newer["sliding_window"] = 7;
  EXPECT_THAT(WindowsOf(Make(newer.dump())), ElementsAre(7, 7, 7, 7, 7));
  EXPECT_THAT(Error(small, R"({"use_sliding_window": true, "sliding_window": 7})"), HasSubstr("max_window_layers: "));
  EXPECT_THAT(Error(small, R"({"mlp_only_layers": ["x"]})", absl::StatusCode::kInvalidArgument),
              HasSubstr("mlp_only_layers: expected a layer's index or a list of them"));
}

TEST(ArchitecturesTest, MiniMaxM2) {
  const std::string published = MiniMaxM2();
  const ModelSpec spec = Make(published);
  ASSERT_EQ(spec.layers.size(), 62u);
  const MoeSpec& moe = *spec.layers[61].moe;
  EXPECT_EQ(moe.experts.size(), 256u);
  EXPECT_EQ(moe.correction_bias, "model.layers.61.block_sparse_moe.e_score_correction_bias");
  EXPECT_EQ(moe.rule.score, RouterScore::kSigmoid);
  EXPECT_TRUE(moe.rule.normalize);
  EXPECT_EQ(moe.rule.experts_per_token, 8);
  EXPECT_FALSE(spec.layers[0].attention.norms->per_head);
  EXPECT_EQ(spec.rope.dim, 64);
  EXPECT_EQ(spec.rope.theta, 5e6);

  const std::string small = Short(published.c_str(), 1);
  const auto with = [&small](const char* changes) {
    Json config = Json::parse(small);
    config.erase("attn_type_list");
    return Make(config.dump(), changes);
  };
  EXPECT_EQ(with(R"({"partial_rotary_factor": 0.25})").rope.dim, 32) << "goes before rotary_dim";
  EXPECT_EQ(with(R"({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.75}})").rope.dim, 96);
  EXPECT_EQ(with(R"({"rotary_dim": null})").rope.dim, 128);
  const RopeSpec proportional = with(R"({"rope_parameters": {"rope_type": "proportional"}})").rope;
  EXPECT_EQ(proportional.dim, 128);
  EXPECT_EQ(std::count(proportional.inv_freq.begin(), proportional.inv_freq.end(), 0), 32)
      << "rotary_dim is the other half";
  EXPECT_EQ(with(R"({"use_routing_bias": false})").layers[0].moe->correction_bias, "");
  EXPECT_THAT(Error(small, R"({"scoring_func": "softmax"})"),
              HasSubstr("scoring_func \"softmax\" is not supported; expected \"sigmoid\""));
  EXPECT_THAT(Error(small, R"({"qk_norm_type": "per_head"})"), HasSubstr("qk_norm_type \"per_head\" is not supported"));
  EXPECT_THAT(Error(small, R"({"use_qk_norm": false})"), HasSubstr("use_qk_norm = false is not supported"));
  EXPECT_THAT(Error(small, R"({"attn_type_list": [0]})"), HasSubstr("attn_type_list: 0 is not supported"));
  EXPECT_THAT(Error(small, R"({"shared_intermediate_size": 8})"),
              HasSubstr("shared_intermediate_size = 8 changes the computation"));
  EXPECT_THAT(Error(small, R"({"layernorm_mlp_beta": 2})"),
              HasSubstr("layernorm_mlp_beta = 2 changes the computation"));
  EXPECT_THAT(Error(small, R"({"rotary_dim": 200})", absl::StatusCode::kInvalidArgument),
              HasSubstr("partial_rotary_factor: expected"));
}

}  // namespace
}  // namespace causeway
