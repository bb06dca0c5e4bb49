#include "engine/architecture/shard.h"

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/architecture/quantization.h"
#include "engine/architecture/registry.h"
#include "engine/checkpoint/json.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ShardTest, SharesDifferByOneAtMostAndTheFirstHaveMore) {
  for (const auto& [whole, size] : {std::pair(8, 2), {25, 4}, {3, 3}, {2, 5}}) {
    int64_t next = 0, before = whole;
    for (int rank = 0; rank < size; ++rank) {
      const ShareRange share = ShareOf(whole, {rank, size});
      EXPECT_EQ(share.first, next);
      EXPECT_LE(share.count, before);
      EXPECT_GE(share.count, whole / size);
      next += share.count, before = share.count;
    }
    EXPECT_EQ(next, whole);
  }
}

TEST(ShardTest, TheWholeIsTheShardOfAGroupOfOne) {
  const LinearSpec spec{.parts = {{"q", "qb", 8}, {"k", "kb", 4}}, .in_features = 7};
  const LinearShard whole = WholeShard(spec);
  EXPECT_EQ(whole.out_count(), 12);
  EXPECT_EQ(whole.in_count, 7);
  EXPECT_TRUE(whole.bias);
  EXPECT_FALSE(whole.partial);
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

TEST(ShardTest, QueriesKeysAndValuesAreCutByHeadsAndRankZeroAddsTheBias) {
  const ModelSpec spec = Model({{"model_type", "llama"}, {"attention_bias", true}, {"mlp_bias", true}});
  const AttentionSpec& attention = spec.layers[0].attention;
  const AttentionShard first = *ShardAttention(spec, attention, {0, 2}),
                       second = *ShardAttention(spec, attention, {1, 2});
  ASSERT_EQ(second.qkv.outputs.size(), 3u);
  EXPECT_EQ(second.qkv.outputs[0].first, 16);
  EXPECT_EQ(second.qkv.outputs[0].count, 16);
  EXPECT_EQ(second.qkv.outputs[1].first, 32 + 8);
  EXPECT_EQ(second.qkv.outputs[2].first, 48 + 8);
  EXPECT_EQ(second.qkv.out_count(), 32);
  EXPECT_TRUE(second.qkv.bias);
  EXPECT_FALSE(second.qkv.partial);
  EXPECT_EQ(second.output.in_first, 16);
  EXPECT_EQ(second.output.in_count, 16);
  EXPECT_EQ(second.output.out_count(), 32);
  EXPECT_TRUE(first.output.bias && first.output.partial && second.output.partial);
  EXPECT_FALSE(second.output.bias);
  // A rank's gate is the gate of what it has.
  const MlpShard mlp = *ShardMlp(spec.layers[0].mlp, {1, 2});
  EXPECT_EQ(mlp.up.outputs[0].first, 32);
  EXPECT_EQ(mlp.up.outputs[1].first, 64 + 32);
  EXPECT_EQ(mlp.down.in_first, 32);
}

// GPT2-XL's 25 heads of 64, over four ranks: the widths of its MLP and its words differ, too.
TEST(ShardTest, WhatDoesNotDivideIsCutIntoSharesThatDiffer) {
  const ModelSpec xl = Model({{"model_type", "gpt2"},
                              {"vocab_size", 50257},
                              {"n_embd", 1600},
                              {"n_layer", 1},
                              {"n_head", 25},
                              {"n_positions", 1024}});
  std::vector<int64_t> heads, words;
  int64_t inputs = 0;
  for (int rank = 0; rank < 4; ++rank) {
    const HeadShare share = *ShardHeads(xl, {rank, 4});
    heads.push_back(share.heads.count);
    EXPECT_EQ(share.kv_heads.first, share.heads.first);
    words.push_back(ShardWords(xl, {rank, 4})->count);
    const MlpShard mlp = *ShardMlp(xl.layers[0].mlp, {rank, 4});
    EXPECT_EQ(mlp.down.in_first, inputs);
    EXPECT_EQ(mlp.down.in_count % 32, 0);
    inputs += mlp.down.in_count;
  }
  EXPECT_THAT(heads, ElementsAre(7, 6, 6, 6));
  EXPECT_EQ(inputs, 6400);
  EXPECT_THAT(words, ElementsAre(12576, 12576, 12576, 50257 - 3 * 12576));
}

TEST(ShardTest, RanksBeyondTheKeyValueHeadsShareThem) {
  const ModelSpec spec = Model({{"model_type", "llama"}, {"num_attention_heads", 6}, {"head_dim", 8}});
  std::vector<int64_t> heads, kv;
  for (int rank = 0; rank < 4; ++rank) {
    const HeadShare share = *ShardHeads(spec, {rank, 4});
    heads.push_back(share.heads.count);
    kv.push_back(share.kv_heads.first);
    EXPECT_EQ(share.kv_heads.count, 1);
  }
  EXPECT_THAT(heads, ElementsAre(2, 1, 2, 1));
  EXPECT_THAT(kv, ElementsAre(0, 0, 1, 1));
}

// Heads of 8 with two to a scale stay together.
TEST(ShardTest, HeadsThatShareAScaleAreNotParted) {
  ModelSpec spec =
      Model({{"model_type", "llama"}, {"num_attention_heads", 6}, {"num_key_value_heads", 6}, {"head_dim", 16}});
  for (LayerSpec& layer : spec.layers) layer.attention.output.format = {WeightKind::kInt4, 32};
  EXPECT_EQ(ShardHeads(spec, {0, 2})->kv_heads.count, 4);
  EXPECT_EQ(ShardHeads(spec, {1, 2})->kv_heads.count, 2);
  EXPECT_THAT(std::string(ShardHeads(spec, {0, 4}).status().message()), HasSubstr("that stay 2 together"));
  EXPECT_THAT(GroupSizes(spec, 8), ElementsAre(1, 2, 3));
}

TEST(ShardTest, ModelsThatCannotBeCutAreRefusedWithWhatCannot) {
  const auto refusal = [](const ModelSpec& spec, int size) {
    return std::string(Shard(spec, {.rank = 0, .size = size}).status().message());
  };
  const ModelSpec llama = Model({{"model_type", "llama"}});
  EXPECT_EQ(refusal(llama, 1), "");
  EXPECT_EQ(refusal(llama, 2), "");
  EXPECT_EQ(refusal(llama, 4), "");
  const std::string heads = "4 heads, 2 for each of 2 key/value heads, cannot be shared by ";
  EXPECT_EQ(refusal(llama, 3), heads + "3 ranks");
  EXPECT_EQ(refusal(llama, 8), heads + "8 ranks");
  EXPECT_THAT(refusal(Model({{"model_type", "llama"}, {"vocab_size", 3}}), 4),
              HasSubstr("lm_head.weight: 3 words cannot be shared by 4 ranks"));
  EXPECT_THAT(refusal(Model({{"model_type", "llama"}, {"intermediate_size", 3}}), 4),
              HasSubstr("model.layers.0.mlp.down_proj.weight: 3 inputs cannot be shared by 4 ranks"));
  ModelSpec quantized = llama;
  for (LayerSpec& layer : quantized.layers) layer.mlp.down.format = {WeightKind::kInt4, 64};
  EXPECT_THAT(refusal(quantized, 2), HasSubstr("64 inputs in groups of 64 cannot be shared by 2 ranks"));
  for (LayerSpec& layer : quantized.layers) layer.mlp.down.format = {WeightKind::kInt4, 32, false, true};
  EXPECT_THAT(refusal(quantized, 2), HasSubstr("ordered by activation"));
  EXPECT_THAT(GroupSizes(llama, 8), ElementsAre(1, 2, 4));
  EXPECT_THAT(GroupSizes(quantized, 8), ElementsAre(1));
}

}  // namespace
}  // namespace causeway
