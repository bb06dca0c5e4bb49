#include "engine/architecture/shard.h"

#include <map>
#include <set>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/architecture/quantization.h"
#include "engine/architecture/registry.h"
#include "engine/checkpoint/json.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;

TEST(ShardTest, ColumnsAreCutWithinEachGroup) {
  const LinearSpec spec{.parts = {{"q", "qb", 8}, {"k", "kb", 4}, {"v", "vb", 4}}, .in_features = 6};
  const absl::StatusOr<LinearShard> shard = ColumnShard(spec, {8, 4, 4}, {.rank = 1, .size = 2});
  ASSERT_TRUE(shard.ok()) << shard.status();
  ASSERT_EQ(shard->outputs.size(), 3u);
  EXPECT_EQ(shard->outputs[0].first, 4);
  EXPECT_EQ(shard->outputs[0].count, 4);
  EXPECT_EQ(shard->outputs[1].first, 10);
  EXPECT_EQ(shard->outputs[1].count, 2);
  EXPECT_EQ(shard->outputs[2].first, 14);
  EXPECT_EQ(shard->out_count(), 8);
  EXPECT_EQ(shard->in_count, 6);
  EXPECT_TRUE(shard->bias);
}

TEST(ShardTest, RowsAreCutAlongInputsAndRankZeroAddsTheBias) {
  const LinearSpec spec{.parts = {{"o", "ob", 8}}, .in_features = 6};
  const absl::StatusOr<LinearShard> first = RowShard(spec, {.rank = 0, .size = 2}),
                                    second = RowShard(spec, {.rank = 1, .size = 2});
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->in_first, 0);
  EXPECT_EQ(second->in_first, 3);
  EXPECT_EQ(second->in_count, 3);
  EXPECT_EQ(second->out_count(), 8);
  EXPECT_TRUE(first->bias);
  EXPECT_FALSE(second->bias);
}

TEST(ShardTest, TheWholeIsTheShardOfAGroupOfOne) {
  const LinearSpec spec{.parts = {{"q", "qb", 8}, {"k", "kb", 4}}, .in_features = 7};
  const LinearShard whole = WholeShard(spec);
  EXPECT_EQ(whole.out_count(), 12);
  EXPECT_EQ(whole.in_count, 7);
  EXPECT_TRUE(whole.bias);
}

TEST(ShardTest, WhatCannotBeCutIsRefusedByName) {
  const ParallelGroup two{.rank = 0, .size = 2};
  const auto why = [](const absl::StatusOr<LinearShard>& shard) { return std::string(shard.status().message()); };
  LinearSpec spec{.parts = {{"layers.0.o_proj.weight", "", 8}}, .in_features = 7};
  EXPECT_EQ(why(RowShard(spec, two)), "layers.0.o_proj.weight: 7 features cannot be cut into 2 equal shares");
  EXPECT_EQ(why(ColumnShard(spec, {5, 3}, two)),
            "layers.0.o_proj.weight: 5 features cannot be cut into 2 equal shares");
  EXPECT_EQ(why(ColumnShard(spec, {4}, two)), "layers.0.o_proj.weight: groups of 4 outputs, but the linear has 8");
  spec.in_features = 192;
  spec.format.group = 64;
  EXPECT_EQ(why(RowShard(spec, two)), "layers.0.o_proj.weight: shares of 96 inputs would cut groups of 64");
  spec.format = {.reordered = true};
  EXPECT_EQ(why(RowShard(spec, two)), "layers.0.o_proj.weight: inputs ordered by activation cannot be cut into shares");
}

ModelSpec Model(Json config) {
  const Json sizes = {
      {"vocab_size", 96},         {"hidden_size", 32},        {"intermediate_size", 64},      {"num_hidden_layers", 2},
      {"num_attention_heads", 4}, {"num_key_value_heads", 2}, {"max_position_embeddings", 64}};
  for (const auto& [key, value] : sizes.items()) {
    if (config["model_type"] != "gpt2" && !config.contains(key)) config[key] = value;
  }
  const absl::StatusOr<ModelSpec> spec = MakeModelSpec(config, Json::object(), DType::kBF16);
  EXPECT_TRUE(spec.ok()) << spec.status();
  return *spec;
}

std::map<std::string, int64_t> BytesByPath(const ModelSpec& spec) {
  std::map<std::string, int64_t> bytes;
  VisitParameters(spec.modules, [&bytes](const std::string& path, const Parameter& parameter) {
    if (parameter.tied_to.empty()) bytes[path] = parameter.bytes();
  });
  return bytes;
}

// Of layer 0 and around the layers, what each of two ranks holds whole; all else adds up to the model's.
std::set<std::string> HeldByEach(const ModelSpec& spec) {
  const std::map<std::string, int64_t> whole = BytesByPath(spec), one = BytesByPath(*Shard(spec, {0, 2})),
                                       other = BytesByPath(*Shard(spec, {1, 2}));
  std::set<std::string> each;
  for (const auto& [path, bytes] : whole) {
    if (one.at(path) == bytes && other.at(path) == bytes) {
      if (path.find(".1.") == std::string::npos) each.insert(path);
      continue;
    }
    EXPECT_EQ(one.at(path) + other.at(path), bytes) << path;
    EXPECT_TRUE(other.at(path) == bytes / 2 || (other.at(path) == 0 && path.find("bias") != std::string::npos)) << path;
  }
  return each;
}

TEST(ShardTest, ARankOfAModelHoldsItsShareOfWhatIsCut) {
  using Names = std::set<std::string>;
  const std::string layer = "model.layers.0.";
  const Names llama = {layer + "input_layernorm.weight", layer + "post_attention_layernorm.weight", "model.norm.weight",
                       "model.rotary_emb.inv_freq", "model.rotary_emb.original_inv_freq"};
  const auto with = [&llama](Names more) {
    more.insert(llama.begin(), llama.end());
    return more;
  };
  EXPECT_EQ(HeldByEach(Model({{"model_type", "llama"}, {"attention_bias", true}, {"mlp_bias", true}})), llama);
  EXPECT_EQ(HeldByEach(Model({{"model_type", "llama"}, {"tie_word_embeddings", true}})), llama);
  ModelSpec int8 = Model({{"model_type", "llama"}});
  ASSERT_TRUE(QuantizeOnLoad({.kind = WeightKind::kInt8}, int8).ok());
  EXPECT_EQ(HeldByEach(int8), llama);
  EXPECT_EQ(HeldByEach(Model({{"model_type", "qwen3"}})),
            with({layer + "self_attn.q_norm.weight", layer + "self_attn.k_norm.weight"}));
  const std::string moe = layer + "block_sparse_moe.";
  EXPECT_EQ(HeldByEach(Model({{"model_type", "minimax_m2"}, {"head_dim", 8}, {"num_local_experts", 8}})),
            with({moe + "gate.weight", moe + "e_score_correction_bias"}));
  EXPECT_EQ(HeldByEach(Model({{"model_type", "gpt2"},
                              {"vocab_size", 96},
                              {"n_embd", 32},
                              {"n_layer", 2},
                              {"n_head", 4},
                              {"n_positions", 64}})),
            (Names{"transformer.wpe.weight", "transformer.h.0.ln_1.weight", "transformer.h.0.ln_1.bias",
                   "transformer.h.0.ln_2.weight", "transformer.h.0.ln_2.bias", "transformer.ln_f.weight",
                   "transformer.ln_f.bias"}));
}

TEST(ShardTest, ARankOfAModelHasItsHeadsWidthsAndWords) {
  const ModelSpec spec = Model({{"model_type", "minimax_m2"}, {"head_dim", 8}, {"num_local_experts", 8}});
  const ModelSpec rank = *Shard(spec, {.rank = 1, .size = 2});
  EXPECT_EQ(rank.heads, 2);
  EXPECT_EQ(rank.kv_heads, 1);
  EXPECT_EQ(rank.hidden_size, 32);
  EXPECT_EQ(rank.vocab_size, 96);
  EXPECT_EQ(rank.head.out_features(), 48);
  const LayerSpec& layer = rank.layers[1];
  EXPECT_EQ(layer.attention.qkv.out_features(), (4 + 2 + 2) * 8 / 2);
  EXPECT_EQ(layer.attention.qkv.in_features, 32);
  EXPECT_EQ(layer.attention.output.in_features, 4 * 8 / 2);
  EXPECT_EQ(layer.moe->router.out_features(), 8);
  for (const MlpSpec& expert : layer.moe->experts) {
    EXPECT_EQ(expert.up.out_features(), 2 * 64 / 2);
    EXPECT_EQ(expert.down.in_features, 64 / 2);
    EXPECT_EQ(expert.down.out_features(), 32);
  }
}

TEST(ShardTest, ModelsThatCannotBeCutAreRefusedWithWhatCannot) {
  const auto refusal = [](const ModelSpec& spec, int size) {
    return std::string(Shard(spec, {.rank = 0, .size = size}).status().message());
  };
  const ModelSpec llama = Model({{"model_type", "llama"}});
  EXPECT_EQ(refusal(llama, 1), "");
  EXPECT_EQ(refusal(llama, 2), "");
  EXPECT_EQ(refusal(llama, 3), "4 heads cannot be cut into 3 equal shares");
  EXPECT_EQ(refusal(llama, 4), "2 key/value heads cannot be cut into 4 equal shares");
  EXPECT_THAT(refusal(Model({{"model_type", "llama"}, {"vocab_size", 97}}), 2),
              HasSubstr("lm_head.weight: 97 features cannot be cut into 2 equal shares"));
  EXPECT_THAT(refusal(Model({{"model_type", "llama"}, {"intermediate_size", 65}}), 2),
              HasSubstr("model.layers.0.mlp.gate_proj.weight: 65 features cannot be cut into 2 equal shares"));
  ModelSpec quantized = llama;
  for (LayerSpec& layer : quantized.layers) layer.mlp.down.format = {WeightKind::kInt4, 64};
  EXPECT_THAT(refusal(quantized, 2), HasSubstr("shares of 32 inputs would cut groups of 64"));
  for (LayerSpec& layer : quantized.layers) layer.mlp.down.format = {WeightKind::kInt4, 32, false, true};
  EXPECT_THAT(refusal(quantized, 2), HasSubstr("ordered by activation"));
  // Heads are not cut, though their columns could be.
  const ModelSpec odd = Model({{"model_type", "llama"}, {"num_attention_heads", 1}, {"num_key_value_heads", 1}});
  EXPECT_THAT(std::string(ShardAttention(odd, odd.layers[0].attention, {0, 2}).status().message()),
              HasSubstr("1 heads cannot be cut into 2"));
}

TEST(ShardTest, WhatIsMissingForAGroupIsSaid) {
  const ModelSpec llama = Model({{"model_type", "llama"}});
  EXPECT_EQ(MissingForGroup(llama, 1), "");
  EXPECT_EQ(MissingForGroup(llama, 2), "tensor parallelism");
  const ModelSpec minimax = Model({{"model_type", "minimax_m2"}, {"head_dim", 8}, {"num_local_experts", 8}});
  EXPECT_EQ(MissingForGroup(minimax, 1), "");
  EXPECT_THAT(MissingForGroup(minimax, 2), HasSubstr("norms over the heads of all ranks"));
}

}  // namespace
}  // namespace causeway
