#include "engine/architecture/quantization.h"

#include <map>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "engine/architecture/registry.h"

namespace causeway {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

Json Llama(const std::string& quantization = "null", const std::string& more = "{}") {
  Json config = Json::parse(R"({"model_type": "llama", "vocab_size": 100, "hidden_size": 256, "intermediate_size": 384,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "dtype": "bfloat16"})");
  config["quantization_config"] = Json::parse(quantization);
  config.update(Json::parse(more));
  return config;
}

absl::StatusOr<ModelSpec> Make(const Json& config) { return MakeModelSpec(config, Json::object(), DType::kBF16); }

std::map<std::string, Parameter> ParametersOf(const ModelSpec& spec) {
  std::map<std::string, Parameter> all;
  VisitParameters(spec.modules, [&all](const std::string& path, const Parameter& parameter) { all[path] = parameter; });
  return all;
}

int64_t Bytes(const ModelSpec& spec) {
  int64_t bytes = 0;
  VisitParameters(spec.modules, [&bytes](const std::string&, const Parameter& p) {
    bytes += p.tied_to.empty() && !p.buffer ? p.bytes() : 0;
  });
  return bytes;
}

constexpr char kFp8[] =
    R"({"quant_method": "fp8", "fmt": "float8_e4m3fn", "activation_scheme": "dynamic", "weight_block_size": [128, 128],
  "modules_to_not_convert": ["lm_head", "model.layers.0.mlp.down_proj"]})";
constexpr char kGptq[] =
    R"({"quant_method": "gptq", "bits": 4, "group_size": 64, "sym": false, "desc_act": true, "damp_percent": 0.1})";
constexpr char kAwq[] = R"({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": true,
  "modules_to_not_convert": null})";

TEST(QuantizationTest, Fp8HasAFactorForEachBlock) {
  const auto spec = Make(Llama(kFp8));
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_THAT(spec->warnings, IsEmpty());
  const auto parameters = ParametersOf(*spec);
  const Parameter &weight = parameters.at("model.layers.0.mlp.up_proj.weight"),
                  &scale = parameters.at("model.layers.0.mlp.up_proj.weight_scale_inv");
  EXPECT_EQ(weight.dtype, DType::kF8E4M3);
  EXPECT_THAT(weight.shape, ElementsAre(384, 256));
  EXPECT_EQ(weight.bytes(), 384 * 256);
  EXPECT_THAT(scale.shape, ElementsAre(3, 2));
  EXPECT_EQ(scale.bytes(), 384 * 2 * 4);  // held for every output
  EXPECT_EQ(parameters.at("model.layers.0.mlp.down_proj.weight").dtype, DType::kBF16);
  EXPECT_EQ(parameters.at("lm_head.weight").dtype, DType::kBF16);
  const LayerSpec& layer = spec->layers[0];
  EXPECT_EQ(layer.mlp.up.encoding.kind, WeightEncoding::Kind::kFp8);
  EXPECT_EQ(layer.mlp.up.format, (WeightFormat{.kind = WeightKind::kFp8, .group = 128}));
  EXPECT_EQ(layer.mlp.down.format.kind, WeightKind::kFloat);
  EXPECT_THAT(StoredTensors(layer.mlp.up, layer.mlp.up.parts[1]),
              ElementsAre("model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight_scale_inv"));
  EXPECT_EQ(spec->quantization, "fp8 in blocks of 128 x 128");
  // One layer's is named by itself, what all layers keep once.
  EXPECT_THAT(spec->unquantized,
              ElementsAre("model.embed_tokens", "model.layers.0.mlp.down_proj", "model.layers.#.input_layernorm",
                          "model.layers.#.post_attention_layernorm", "model.norm", "lm_head"));
  EXPECT_EQ(spec->parameter_count(), Make(Llama())->parameter_count());
}

TEST(QuantizationTest, GptqPacksInputsAndMayOrderThem) {
  const auto spec = Make(Llama(kGptq));
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_THAT(spec->warnings, IsEmpty());
  const auto parameters = ParametersOf(*spec);
  const std::string up = "model.layers.1.mlp.up_proj";
  EXPECT_EQ(parameters.count(up + ".weight"), 0u);
  EXPECT_EQ(parameters.at(up + ".qweight").dtype, DType::kI32);
  EXPECT_THAT(parameters.at(up + ".qweight").shape, ElementsAre(256 / 8, 384));
  EXPECT_EQ(parameters.at(up + ".qweight").bytes(), 384 * 256 / 2);
  EXPECT_THAT(parameters.at(up + ".qzeros").shape, ElementsAre(4, 384 / 8));
  EXPECT_EQ(parameters.at(up + ".qzeros").bytes(), 4 * 384);
  EXPECT_THAT(parameters.at(up + ".scales").shape, ElementsAre(4, 384));
  EXPECT_EQ(parameters.at(up + ".scales").bytes(), 4 * 384 * 2);
  EXPECT_THAT(parameters.at(up + ".g_idx").shape, ElementsAre(256));
  const LinearSpec& linear = spec->layers[1].mlp.up;
  EXPECT_EQ(linear.format,
            (WeightFormat{.kind = WeightKind::kInt4, .group = 64, .zero_points = true, .reordered = true}));
  EXPECT_EQ(linear.encoding.zero_offset, 1);
  EXPECT_FALSE(parameters.at(up + ".g_idx").known.has_value());
  EXPECT_EQ(spec->quantization, "int4 in groups of 64 (gptq)");
  EXPECT_EQ(spec->parameter_count(), Make(Llama())->parameter_count());
  EXPECT_EQ(ParametersOf(*Make(Llama(kGptq))).at("lm_head.weight").dtype, DType::kBF16);
}

TEST(QuantizationTest, GptqWithoutOrderOrZeroPoints) {
  const auto spec = Make(Llama(
      R"({"quant_method": "gptq", "bits": 4, "group_size": -1, "sym": true, "desc_act": true, "checkpoint_format": "gptq_v2",
    "modules_in_block_to_quantize": [["mlp.gate_proj", "mlp.up_proj"], ["mlp.down_proj"]]})"));
  ASSERT_TRUE(spec.ok()) << spec.status();
  const LinearSpec& down = spec->layers[0].mlp.down;
  EXPECT_EQ(down.format, (WeightFormat{.kind = WeightKind::kInt4, .group = 0}));
  EXPECT_FALSE(down.format.reordered);  // one group has no order
  EXPECT_EQ(down.encoding.zero_offset, 0);
  EXPECT_EQ(spec->layers[0].attention.qkv.format.kind, WeightKind::kFloat);
  const auto parameters = ParametersOf(*spec);
  EXPECT_EQ(parameters.at("model.layers.0.mlp.down_proj.qzeros").bytes(), 0);
  // Orders and biases that say nothing may be stored, and cost nothing.
  for (const auto& [name, elements] :
       {std::pair("model.layers.0.mlp.down_proj.g_idx", 384), {"model.layers.0.mlp.down_proj.bias", 256}}) {
    const Parameter& known = parameters.at(name);
    ASSERT_TRUE(known.known.has_value()) << name;
    EXPECT_EQ(known.known->run, elements);
    EXPECT_EQ(known.shape, std::vector<int64_t>{elements});
    EXPECT_EQ(known.bytes() + known.parameter_count(), 0);
  }
  EXPECT_EQ(parameters.count("model.layers.0.self_attn.q_proj.bias"), 0u);
  EXPECT_THAT(spec->unquantized, Contains("model.layers.#.self_attn.q_proj"));
}

TEST(QuantizationTest, AwqPacksOutputs) {
  const auto spec = Make(Llama(kAwq));
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_THAT(spec->warnings, IsEmpty());
  const auto parameters = ParametersOf(*spec);
  EXPECT_THAT(parameters.at("model.layers.0.self_attn.k_proj.qweight").shape, ElementsAre(256, 128 / 8));
  EXPECT_THAT(parameters.at("model.layers.0.self_attn.k_proj.qzeros").shape, ElementsAre(2, 128 / 8));
  EXPECT_EQ(spec->layers[0].attention.qkv.format,
            (WeightFormat{.kind = WeightKind::kInt4, .group = 128, .zero_points = true}));
  EXPECT_EQ(spec->layers[0].attention.qkv.encoding.zero_offset, 0);
}

// As published, of two layers and four experts.
constexpr char kMiniMaxM2[] =
    R"({"model_type": "minimax_m2", "head_dim": 128, "hidden_size": 3072, "intermediate_size": 1536,
  "num_attention_heads": 48, "num_key_value_heads": 8, "num_experts_per_tok": 2, "num_local_experts": 4, "num_hidden_layers": 2, "rms_norm_eps": 1e-6,
  "rotary_dim": 64, "vocab_size": 64, "use_routing_bias": true,
  "quantization_config": {"activation_scheme": "dynamic", "fmt": "float8_e4m3fn", "quant_method": "fp8", "weight_block_size": [128, 128],
    "modules_to_not_convert": ["gate", "e_score_correction_bias", "lm_head"]}})";

TEST(QuantizationTest, ExpertsAreQuantizedAndRoutersAreNot) {
  Json config = Json::parse(kMiniMaxM2);
  const auto fp8 = Make(config);
  ASSERT_TRUE(fp8.ok()) << fp8.status();
  config.erase("quantization_config");
  const ModelSpec plain = *Make(config);
  ModelSpec int4 = plain;
  ASSERT_TRUE(QuantizeOnLoad(*ParseQuantize("int4"), int4).ok());
  for (const auto& [spec, kind] : {std::pair(*fp8, WeightKind::kFp8), std::pair(int4, WeightKind::kInt4)}) {
    const MoeSpec& moe = *spec.layers[1].moe;
    EXPECT_EQ(moe.router.format.kind, WeightKind::kFloat);
    for (const MlpSpec& expert : moe.experts) {
      EXPECT_EQ(expert.up.format.kind, kind);
      EXPECT_EQ(expert.down.format.kind, kind);
    }
    EXPECT_EQ(spec.parameter_count(), plain.parameter_count());
    EXPECT_THAT(spec.unquantized, Contains("model.layers.#.block_sparse_moe.gate"));
    EXPECT_LT(Bytes(spec), 0.6 * Bytes(plain));
  }
  EXPECT_THAT(ParametersOf(*fp8).at("model.layers.1.block_sparse_moe.experts.3.w2.weight_scale_inv").shape,
              ElementsAre(24, 12));
}

TEST(QuantizationTest, NamesToKeepAreWholeComponents) {
  // "gate" is not gate_proj, and layer 1's MLP is not layer 10's.
  const auto spec = Make(Llama(
      R"({"quant_method": "awq", "bits": 4, "group_size": 32, "modules_to_not_convert": ["gate", "layers.1.mlp", "self_attn"]})",
      R"({"num_hidden_layers": 11})"));
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->layers[0].mlp.up.format.kind, WeightKind::kInt4);
  EXPECT_EQ(spec->layers[1].mlp.up.format.kind, WeightKind::kFloat);
  EXPECT_EQ(spec->layers[10].mlp.up.format.kind, WeightKind::kInt4);
  EXPECT_EQ(spec->layers[10].attention.output.format.kind, WeightKind::kFloat);
}

// The oracle is should_convert_module of transformers 4.57: an entry is matched as a regular expression against the
// beginning of a module's name, or ends it.
TEST(QuantizationTest, NamesToKeepAreTransformersToo) {
  const struct {
    const char* entries;
    std::set<int> layers;  // of twelve, those whose linears stay plain
  } cases[] = {
      {R"(["model.layers.0.", "model.layers.11."])", {0, 11}},  // as published AWQ folders of MiniMax-M2 have them
      {R"([".layers.3."])", {3}},
      {R"(["model.layers.1"])", {1, 10, 11}},  // a beginning knows no boundary
      {R"(["model.layers.(2|5)\\."])", {2, 5}},
      {R"([".*\\.layers\\.[78]\\..*"])", {7, 8}},
      {R"(["layers.4.mlp.gate_proj", "layers.4.mlp.up_proj", "layers.4.mlp.down_proj", "layers.4.self_attn"])", {4}},
      {R"(["ayers\\.6"])", {}},  // matched from the beginning on
      {R"(["."])", {}},
      {R"(["lm_head"])", {}},
  };
  for (const auto& [entries, layers] : cases) {
    const auto spec =
        Make(Llama(absl::StrCat(R"({"quant_method": "awq", "bits": 4, "modules_to_not_convert": )", entries, "}"),
                   R"({"num_hidden_layers": 12})"));
    ASSERT_TRUE(spec.ok()) << entries << spec.status();
    for (int layer = 0; layer < 12; ++layer) {
      const WeightKind expected = layers.count(layer) > 0 ? WeightKind::kFloat : WeightKind::kInt4;
      EXPECT_EQ(spec->layers[layer].mlp.up.format.kind, expected) << entries << ", layer " << layer;
      EXPECT_EQ(spec->layers[layer].attention.qkv.format.kind, expected) << entries << ", layer " << layer;
    }
  }
  const absl::Status status =
      Make(Llama(R"x({"quant_method": "awq", "bits": 4, "modules_to_not_convert": ["layers.(?!0)"]})x")).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("modules_to_not_convert: \"layers.(?!0)\" is no regular"));
}

TEST(QuantizationTest, BitsThatAreNoNumberAreOneComplaint) {
  const absl::Status status = Make(Llama(R"({"quant_method": "gptq", "bits": "4", "group_size": 128})")).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("bits"));
  EXPECT_THAT(std::string(status.message()), ::testing::Not(HasSubstr("not supported")));
}

TEST(QuantizationTest, OthersAreRefusedByName) {
  const std::pair<const char*, const char*> refusals[] = {
      {R"({"quant_method": "bitsandbytes", "load_in_4bit": true})",
       "quant_method \"bitsandbytes\" is not supported; expected fp8 (blocks of 128 x 128), gptq or awq"},
      {R"({"quant_method": "compressed-tensors"})", "\"compressed-tensors\""},
      {R"({"quant_method": "mxfp4"})", "\"mxfp4\""},
      {R"({"load_in_8bit": true})", "quant_method is missing"},
      {R"({"quant_method": "gptq", "bits": 8, "group_size": 128})",
       "quantization_config: bits 8 is not supported with gptq; expected 4"},
      {R"({"quant_method": "gptq", "bits": 4, "group_size": 16})",
       "group_size 16 is not supported; expected 32, 64, 128 or -1"},
      {R"({"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"})",
       "checkpoint_format \"marlin\" is not supported; expected gptq or gptq_v2"},
      {R"({"quant_method": "gptq", "bits": 4, "lm_head": true})", "lm_head: a quantized head"},
      {R"({"quant_method": "gptq", "bits": 4, "dynamic": {"-:.*gate": {}}})", "dynamic: other options"},
      {R"({"quant_method": "awq", "bits": 3})", "bits 3 is not supported with awq; expected 4"},
      {R"({"quant_method": "awq", "bits": 4, "version": "gemv"})", "version \"gemv\" is not supported; expected gemm"},
      {R"({"quant_method": "awq", "bits": 4, "zero_point": false})", "zero_point false"},
      {R"({"quant_method": "fp8", "weight_block_size": [64, 128]})",
       "weight_block_size [64,128] is not supported; expected [128,128]"},
      {R"({"quant_method": "fp8"})", "weight_block_size null is not supported"},
      {R"({"quant_method": "fp8", "weight_block_size": [128, 128], "fmt": "e5m2"})",
       "fmt \"e5m2\" is not supported; expected e4m3"},
      {R"({"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "static"})",
       "activation_scheme \"static\""},
      {R"({"quant_method": "awq", "bits": 4, "modules_to_not_convert": ["q_proj"]})",
       "quantizes some and not all of model.layers.0.self_attn.q_proj, model.layers.0.self_attn.k_proj, "
       "model.layers.0.self_attn.v_proj"},
  };
  for (const auto& [quantization, message] : refusals) {
    const absl::Status status = Make(Llama(quantization)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << quantization << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
}

TEST(QuantizationTest, SizesThatTheFormatCannotHoldAreNamed) {
  const absl::Status status = Make(Llama(kAwq, R"({"intermediate_size": 400})")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("model.layers.0.mlp.down_proj is 256 x 400; expected outputs "
                                                       "and inputs in multiples of 8 and whole groups of 128 inputs"));
  EXPECT_EQ(Make(Llama(R"({"quant_method": "awq", "modules_to_not_convert": [3], "bits": 4})")).status().code(),
            absl::StatusCode::kInvalidArgument);
  const Json gpt2 = Json::parse(R"({"model_type": "gpt2", "vocab_size": 100, "n_embd": 64, "n_layer": 1, "n_head": 2,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}})");
  EXPECT_THAT(std::string(Make(gpt2).status().message()), HasSubstr("fp8 is not supported for gpt2"));
}

TEST(QuantizationTest, OnLoadMakesEveryLinearSmallerAndTheRestStays) {
  const ModelSpec plain = *Make(Llama());
  ModelSpec int8 = plain, int4 = plain;
  ASSERT_TRUE(QuantizeOnLoad(*ParseQuantize("int8"), int8).ok());
  ASSERT_TRUE(QuantizeOnLoad(*ParseQuantize("int4"), int4).ok());
  EXPECT_EQ(int8.layers[1].attention.qkv.format.kind, WeightKind::kInt8);
  EXPECT_EQ(int4.layers[1].mlp.down.format, (WeightFormat{.kind = WeightKind::kInt4, .group = 32}));
  EXPECT_EQ(int4.head.format.kind, WeightKind::kInt8);
  const auto parameters = ParametersOf(int4);
  EXPECT_EQ(parameters.at("model.layers.0.mlp.up_proj.weight").bytes(), 384 * 256 / 2 + 384 * 8 * 2);
  EXPECT_EQ(parameters.at("lm_head.weight").bytes(), 100 * 256 + 100 * 4);
  EXPECT_EQ(parameters.at("model.embed_tokens.weight").bytes(), 100 * 256 * 2);
  // Still stored as before.
  EXPECT_EQ(parameters.at("lm_head.weight").dtype, DType::kBF16);
  EXPECT_EQ(int4.parameter_count(), plain.parameter_count());
  EXPECT_LT(Bytes(int4), Bytes(int8));
  EXPECT_LT(Bytes(int8), Bytes(plain));
  EXPECT_EQ(int8.quantization, "int8 by channel");
  EXPECT_EQ(int4.quantization, "int4 in groups of 32, the head in int8");
  EXPECT_THAT(int4.unquantized, ElementsAre("model.embed_tokens", "model.layers.#.input_layernorm",
                                            "model.layers.#.post_attention_layernorm", "model.norm"));
}

TEST(QuantizationTest, OnLoadTakesATiedEmbeddingAlongAndListsBiases) {
  ModelSpec spec = *Make(Llama("null", R"({"tie_word_embeddings": true, "attention_bias": true})"));
  ASSERT_TRUE(QuantizeOnLoad(*ParseQuantize("int4:64"), spec).ok());
  EXPECT_EQ(ParametersOf(spec).at("model.embed_tokens.weight").bytes(), 100 * 256 + 100 * 4);
  EXPECT_THAT(spec.unquantized,
              AllOf(Contains("model.layers.#.self_attn.q_proj.bias"), Not(Contains("model.embed_tokens"))));
}

TEST(QuantizationTest, TheOptionIsOneOfFiveAndForPlainCheckpointsOnly) {
  EXPECT_EQ(ParseQuantize("none")->kind, WeightKind::kFloat);
  EXPECT_EQ(ParseQuantize("")->kind, WeightKind::kFloat);
  EXPECT_EQ(*ParseQuantize("int4"), *ParseQuantize("int4:32"));
  EXPECT_EQ(ParseQuantize("int4:64")->group, 64);
  EXPECT_THAT(std::string(ParseQuantize("int4:128").status().message()),
              HasSubstr("\"int4:128\" is not supported; expected none, int8, int4, int4:32 or int4:64"));
  ModelSpec spec = *Make(Llama(kAwq));
  EXPECT_TRUE(QuantizeOnLoad(*ParseQuantize("none"), spec).ok());
  const absl::Status status = QuantizeOnLoad(*ParseQuantize("int8"), spec);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("quantized already (int4 in groups of 128 (awq))"));
}

}  // namespace
}  // namespace causeway
