#include "engine/architecture/registry.h"

#include <algorithm>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/checkpoint/testing.h"

namespace causeway {
namespace {

using ::causeway::testing::SafetensorsFile;
using ::causeway::testing::TestFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const Json& Llama() {
  static const Json* const config =
      new Json(Json::parse(R"({"model_type": "llama", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48,
      "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "rms_norm_eps": 1e-5})"));
  return *config;
}
const Json& Gpt2() {
  static const Json* const config =
      new Json(Json::parse(R"({"model_type": "gpt2", "vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4})"));
  return *config;
}
Json With(Json config, const std::string& changes) {
  config.merge_patch(Json::parse(changes));
  return config;
}
absl::StatusOr<ModelSpec> Make(const Json& config, const Json& generation = Json::object()) {
  return MakeModelSpec(config, generation, DType::kF32);
}

TEST(RegistryTest, ListsItsRowsSorted) {
  const std::vector<std::string> names = SupportedArchitectures();
  EXPECT_GE(names.size(), 8u);
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end())) << ::testing::PrintToString(names);
}

TEST(RegistryTest, ReadsLlama) {
  const auto spec = Make(
      With(Llama(), R"({"torch_dtype": "bfloat16", "head_dim": 12, "eos_token_id": [3, 4], "attention_bias": true})"));
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->architecture, "llama");
  EXPECT_EQ(spec->head_dim, 12);
  EXPECT_EQ(spec->rope.dim, 12);
  EXPECT_EQ(spec->context_max, 128);
  EXPECT_THAT(spec->eos_token_ids, ElementsAre(3, 4));
  EXPECT_EQ(spec->layers[1].attention.qkv.parts[1].weight, "model.layers.1.self_attn.k_proj.weight");
  EXPECT_EQ(spec->layers[1].attention.qkv.parts[1].bias, "model.layers.1.self_attn.k_proj.bias");
  EXPECT_EQ(spec->layers[1].mlp.down.parts[0].bias, "");
  EXPECT_EQ(spec->final_norm.eps, 1e-5);
  EXPECT_FALSE(spec->tied_head);
  EXPECT_THAT(spec->warnings, IsEmpty());
}

TEST(RegistryTest, ScaledRopesStretchTheContext) {
  const auto context = [](const std::string& rope) {
    const auto spec = Make(With(Llama(), R"({"rope_scaling": )" + rope + "}"));
    EXPECT_TRUE(spec.ok()) << spec.status();
    return spec.ok() ? spec->context_max : 0;
  };
  EXPECT_EQ(context("null"), 128);
  EXPECT_EQ(context(R"({"type": "dynamic", "factor": 2.5})"), 320);
  EXPECT_EQ(context(R"({"type": "dynamic", "factor": 1e30})"), int64_t{1} << 40);
  EXPECT_EQ(context(R"({"type": "linear", "factor": 2.5})"), 320);
  EXPECT_EQ(context(R"({"type": "linear", "factor": 0.5})"), 128);
  EXPECT_EQ(context(R"({"type": "yarn", "factor": 4, "original_max_position_embeddings": 128})"), 512)
      << "Qwen's recipe";
  EXPECT_EQ(context(R"({"type": "yarn", "factor": 4})"), 512);
  EXPECT_EQ(context(R"({"type": "yarn", "factor": 4, "original_max_position_embeddings": 32})"), 128)
      << "stretched already";
  EXPECT_EQ(context(R"({"type": "yarn", "factor": 40, "original_max_position_embeddings": 32})"), 128);
  EXPECT_EQ(context(R"({"type": "yarn", "factor": null, "original_max_position_embeddings": 32})"), 128);
  EXPECT_EQ(context(R"({"type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4})"), 128);
}

TEST(RegistryTest, ReadsGpt2InBothSpellings) {
  const auto spec = Make(Gpt2());
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_TRUE(spec->tied_head);
  EXPECT_EQ(spec->head.parts[0].weight, "transformer.wte.weight");
  EXPECT_EQ(spec->rope.dim, 0);
  EXPECT_EQ(spec->context_max, 1024);
  EXPECT_EQ(spec->intermediate_size, 128);
  EXPECT_EQ(spec->layers[0].mlp.activation, Activation::kGeluTanh);
  const auto other = Make(Json::parse(
      R"({"model_type": "gpt2", "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
      "max_position_embeddings": 77, "dtype": "float16"})"));
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_EQ(other->hidden_size, 32);
  EXPECT_EQ(other->context_max, 77);
}

// Whole files as published, with all that they hold beyond the computation.
TEST(RegistryTest, PublishedConfigsGiveNoWarning) {
  const auto gpt2 =
      Make(Json::parse(R"({"activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
      "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05,
      "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024, "resid_pdrop": 0.1,
      "summary_activation": null, "summary_first_dropout": 0.1, "summary_proj_to_labels": true, "summary_type": "cls_index",
      "summary_use_proj": true, "task_specific_params": {"text-generation": {"do_sample": true, "max_length": 50}}, "vocab_size": 50257})"));
  ASSERT_TRUE(gpt2.ok()) << gpt2.status();
  EXPECT_THAT(gpt2->warnings, IsEmpty());
  EXPECT_THAT(gpt2->eos_token_ids, ElementsAre(50256));
  const auto llama =
      Make(Json::parse(R"({"architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
      "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048,
      "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama",
      "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
      "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
      "rope_type": "llama3"}, "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
      "transformers_version": "4.45.0.dev0", "use_cache": true, "vocab_size": 128256})"));
  ASSERT_TRUE(llama.ok()) << llama.status();
  EXPECT_THAT(llama->warnings, IsEmpty());
  EXPECT_THAT(llama->eos_token_ids, ElementsAre(128001, 128008, 128009));
}

TEST(RegistryTest, EndOfSequenceComesFromTheGenerationConfigFirst) {
  EXPECT_THAT(
      Make(With(Llama(), R"({"eos_token_id": 3})"), Json::parse(R"({"eos_token_id": [5, 6, 5]})"))->eos_token_ids,
      ElementsAre(5, 6));
  EXPECT_THAT(Make(With(Llama(), R"({"eos_token_id": 3})"))->eos_token_ids, ElementsAre(3));
  EXPECT_THAT(Make(Llama())->eos_token_ids, ElementsAre(2));  // the class's default
  Json none = Llama();
  none["eos_token_id"] = nullptr;
  EXPECT_THAT(Make(none)->eos_token_ids, IsEmpty());
  EXPECT_THAT(Make(Gpt2())->eos_token_ids, IsEmpty());  // 50256 is not in this vocabulary
  const auto outside = Make(With(Llama(), R"({"eos_token_id": [3, 96]})"));
  EXPECT_THAT(outside->eos_token_ids, ElementsAre(3));
  EXPECT_THAT(outside->warnings, ElementsAre("eos_token_id 96 is outside the vocabulary of 96 and is ignored"));
  // What generation_config.json gets wrong is config.json's to say.
  const auto broken = Make(With(Llama(), R"({"eos_token_id": 3})"), Json::parse(R"({"eos_token_id": "x"})"));
  ASSERT_TRUE(broken.ok()) << broken.status();
  EXPECT_THAT(broken->eos_token_ids, ElementsAre(3));
  EXPECT_THAT(broken->warnings, ElementsAre(HasSubstr("generation_config.json: eos_token_id: expected")));
  EXPECT_EQ(Make(With(Llama(), Json({{"eos_token_id", std::vector<int>(64, 5)}}).dump()))->eos_token_ids.size(), 1u);
  EXPECT_THAT(Make(Llama(), {{"eos_token_id", std::vector<int>(65, 5)}})->warnings,
              ElementsAre(HasSubstr("generation_config.json: eos_token_id: expected at most 64 token ids, found 65")));
}

TEST(RegistryTest, UnknownKeysAreWarnedOf) {
  const auto spec = Make(With(Llama(), R"({"frobnicate": 3})"));
  ASSERT_TRUE(spec.ok());
  EXPECT_THAT(spec->warnings, ElementsAre("config.json: unknown key frobnicate is ignored"));
}

struct Refusal {
  Json config;
  std::string message;
};

std::string Supported() { return absl::StrJoin(SupportedArchitectures(), ", "); }

TEST(RegistryTest, RefusesByNameWhatChangesTheComputation) {
  const Refusal refusals[] = {
      {Json::parse(R"({"model_type": "mamba"})"),
       absl::StrCat("model_type \"mamba\" is not supported; expected one of ", Supported())},
      {With(Llama(), R"({"quantization_config": {"quant_method": "bitsandbytes"}})"),
       "quant_method \"bitsandbytes\" is not supported"},
      {With(Llama(), R"({"sliding_window": 1024})"), "sliding_window = 1024"},
      {With(Llama(), R"({"partial_rotary_factor": 0.5})"), "partial_rotary_factor = 0.5"},
      {With(Llama(), R"({"layer_types": ["full_attention", "sliding_attention"]})"),
       "layer_types: layer 1 is \"sliding_attention\", which is not supported here: no layer has a sliding window"},
      {With(Llama(), R"({"layer_types": ["full_attention", "chunked_attention"]})"),
       "layer_types: \"chunked_attention\" is not supported; expected \"full_attention\" or \"sliding_attention\""},
      {With(Llama(), R"({"rope_scaling": {"type": "axial"}})"), "rope_type \"axial\""},
      {With(Llama(), R"({"hidden_act": "xielu"})"),
       "hidden_act \"xielu\" is not supported; expected one of silu, swish, gelu"},
      {With(Llama(), R"({"num_local_experts": 8})"), "num_local_experts = 8"},
      {With(Gpt2(), R"({"add_cross_attention": true})"), "add_cross_attention = true"},
      {With(Gpt2(), R"({"pruned_heads": {"1": [0]}})"), "pruned_heads = {\"1\":[0]}"},
      {With(Gpt2(), R"({"is_encoder_decoder": true})"), "is_encoder_decoder = true"},
      {With(Gpt2(), R"({"activation_function": "quick_gelu"})"), "activation_function \"quick_gelu\""},
  };
  for (const Refusal& refusal : refusals) {
    const absl::Status status = Make(refusal.config).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << refusal.config << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(refusal.message));
  }
}

TEST(RegistryTest, NamesWhatIsMissingOrWrong) {
  const Refusal refusals[] = {
      {Json::array(), "expected an object, found an array"},
      {Json::object(), absl::StrCat("model_type is missing; expected one of ", Supported())},
      {With(Llama(), R"({"vocab_size": null})"),
       "vocab_size: expected a whole number from 1 to 16777216, found nothing"},
      {With(Llama(), R"({"hidden_size": "32"})"),
       "hidden_size: expected a whole number from 1 to 4194304, found \"32\""},
      {With(Llama(), R"({"num_hidden_layers": 100000000})"),
       "num_hidden_layers: expected a whole number from 1 to 10000, found 100000000"},
      {With(Llama(), R"({"num_attention_heads": 5})"), "hidden_size: expected a multiple of num_attention_heads (5)"},
      {With(Llama(), R"({"num_key_value_heads": 3})"), "expected a multiple of num_key_value_heads (3), found 4"},
      {With(Llama(), R"({"num_attention_heads": 4194304, "head_dim": 4194304})"),
       "num_attention_heads * head_dim: expected at most 4194304"},
      {With(Llama(), R"({"rms_norm_eps": 0})"), "rms_norm_eps: expected a number above 0, at most 1e+30, found 0"},
      {With(Llama(), R"({"head_dim": 7})"), "rotary dimensions: expected an even number, found 7"},
      {With(Llama(), R"({"layer_types": 3})"), "layer_types: expected a list of 2, one for each layer, found 3"},
      {With(Llama(), R"({"layer_types": ["full_attention"]})"),
       "layer_types: expected a list of 2, one for each layer, found one of 1"},
      {With(Gpt2(), R"({"n_head": 5})"), "n_embd: expected a multiple of n_head (5), found 32"},
      {With(Gpt2(), R"({"n_embd": null})"), "n_embd: expected a whole number from 1 to 4194304, found nothing"},
      {With(Gpt2(), R"({"scale_attn_weights": 1})"), "scale_attn_weights: expected true or false, found 1"},
  };
  for (const Refusal& refusal : refusals) {
    const absl::Status status = Make(refusal.config).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << refusal.config << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(refusal.message));
  }
  // All at once.
  EXPECT_THAT(
      std::string(Make(Json::parse(R"({"model_type": "llama", "vocab_size": 0, "clip_qkv": 2})")).status().message()),
      ::testing::AllOf(HasSubstr("vocab_size"), HasSubstr("hidden_size"), HasSubstr("num_attention_heads"),
                       HasSubstr("clip_qkv")));
}

// Values that mean nothing where they stand, and numbers as Python's users write them.
TEST(RegistryTest, ValuesWithoutAMeaningPass) {
  const Json configs[] = {
      With(Llama(), R"({"model_type": "qwen2", "use_sliding_window": false, "sliding_window": 0})"),
      With(Llama(),
           R"({"model_type": "qwen2", "use_sliding_window": false, "sliding_window": -1, "max_window_layers": 2.0})"),
      With(Llama(),
           R"({"rope_scaling": {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 64.0}})"),
      With(Llama(),
           R"({"rope_scaling": {"rope_type": "default", "mrope_section": [2, 2, 2], "mrope_interleaved": true}})"),
      With(Llama(), R"({"max_position_embeddings": 256.0, "vocab_size": 9.6e1})"),
  };
  for (const Json& config : configs) EXPECT_TRUE(Make(config).ok()) << config << Make(config).status();
  EXPECT_THAT(std::string(Make(With(Llama(), R"({"vocab_size": 96.5})")).status().message()),
              HasSubstr("vocab_size: expected a whole number"));
}

TEST(RegistryTest, FullAttentionLayerTypesAndSwitchedOffOptionsPass) {
  const auto spec = Make(With(
      Llama(), R"({"layer_types": ["full_attention", "full_attention"], "pretraining_tp": 2, "is_decoder": true})"));
  EXPECT_TRUE(spec.ok()) << spec.status();
  EXPECT_TRUE(
      Make(With(Gpt2(), R"({"reorder_and_upcast_attn": true, "add_cross_attention": false, "pruned_heads": {}})"))
          .ok());
}

// Of a checkpoint whose bytes are mostly bf16.
absl::StatusOr<DType> DTypeFor(const char* flag, const Json& config) {
  TestFolder folder;
  folder.Write("config.json", config.dump());
  folder.Write("model.safetensors", SafetensorsFile({{"a", "BF16", {6}, std::string(12, 'x')},
                                                     {"b", "F32", {2}, std::string(8, 'x')},
                                                     {"mask", "U8", {99}, std::string(99, 'x')}}));
  const auto checkpoint = Checkpoint::Open(folder.path());
  if (!checkpoint.ok()) return checkpoint.status();
  return ComputeDType(flag, **checkpoint);
}

TEST(ComputeDTypeTest, AutoFollowsTheConfig) {
  EXPECT_EQ(*DTypeFor("auto", With(Llama(), R"({"torch_dtype": "bfloat16"})")), DType::kBF16);
  EXPECT_EQ(*DTypeFor("auto", With(Llama(), R"({"torch_dtype": "bfloat16", "dtype": "float32"})")), DType::kF32);
  EXPECT_EQ(*DTypeFor("auto", With(Llama(), R"({"dtype": "float16"})")), DType::kF16);
  EXPECT_EQ(*DTypeFor("auto", With(Llama(), R"({"dtype": "torch.bfloat16"})")), DType::kBF16);
  EXPECT_EQ(*DTypeFor("float32", With(Llama(), R"({"dtype": "bfloat16"})")), DType::kF32);
  EXPECT_EQ(*DTypeFor("fp16", Llama()), DType::kF16);
  // Whatever config.json says, a flag goes before it.
  for (const char* odd : {R"({"torch_dtype": "float64"})", R"({"torch_dtype": 3})", R"({"dtype": "auto"})"})
    EXPECT_EQ(*DTypeFor("bf16", With(Llama(), odd)), DType::kBF16) << odd;
  EXPECT_THAT(std::string(DTypeFor("auto", With(Llama(), R"({"torch_dtype": "float64"})")).status().message()),
              HasSubstr("dtype (--dtype) goes before it"));
  EXPECT_THAT(std::string(DTypeFor("auto", With(Llama(), R"({"torch_dtype": 3})")).status().message()),
              HasSubstr("torch_dtype: expected a string, found 3"));
  EXPECT_THAT(std::string(DTypeFor("int4", Llama()).status().message()), HasSubstr("dtype \"int4\" is not supported"));
}

TEST(ComputeDTypeTest, AutoAsksTheWeightsWhereTheConfigIsSilent) {
  EXPECT_EQ(*DTypeFor("auto", Llama()), DType::kBF16);
  EXPECT_EQ(*DTypeFor("auto", With(Llama(), R"({"torch_dtype": "auto"})")), DType::kBF16);
}

}  // namespace
}  // namespace causeway
