#include "engine/graph/graph.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/graph/test_graphs.h"

namespace causeway {
namespace {

TEST(GraphTest, KnownFiguresOfGpt) {
  const LayerGraph graph = Gpt15B();
  EXPECT_EQ(graph.nodes.size(), 51u);
  EXPECT_EQ(graph.edges.size(), 50u);
  EXPECT_EQ(graph.total.parameters, 1'635'537'600);
  EXPECT_NEAR(static_cast<double>(graph.total.bytes) / (1 << 20), 6239.08, 0.005);
  EXPECT_NEAR(graph.total.flops / 1e9, 3506.70, 0.005);
  EXPECT_EQ(graph.edges[0].bytes, 1024 * 1600 * 4);
  EXPECT_EQ(graph.nodes[0].name, "embeddings");
  EXPECT_EQ(graph.nodes[48].name, "layer 47");
  EXPECT_EQ(graph.nodes[50].name, "head");
}

TEST(GraphTest, ATiedHeadHoldsNothingOfItsOwn) {
  const ModelSpec spec = TestLlama({.vocab = 96, .tied = true});
  const LayerGraph graph = MakeLayerGraph(spec, {.batch = 3, .tokens = 5, .dtype = DType::kBF16});
  EXPECT_EQ(graph.total.parameters, spec.parameter_count());
  EXPECT_EQ(graph.nodes.back().bytes, 0);
  EXPECT_EQ(graph.nodes.back().shared_bytes, 6144);  // 96 rows of 32 in bf16
  EXPECT_EQ(graph.nodes.back().flops, 92160);        // 3,072 weights, twice for each of 15 tokens
  EXPECT_EQ(graph.edges[0].bytes, 960);              // 15 rows of 32 in bf16
}

TEST(GraphTest, TokensCostTheExpertsAndTheWindowTheyUse) {
  const Json config = {{"model_type", "mixtral"},
                       {"vocab_size", 64},
                       {"hidden_size", 32},
                       {"intermediate_size", 48},
                       {"num_hidden_layers", 1},
                       {"num_attention_heads", 4},
                       {"num_key_value_heads", 2},
                       {"num_local_experts", 8},
                       {"num_experts_per_tok", 2},
                       {"sliding_window", 16},
                       {"max_position_embeddings", 128}};
  const LayerGraph graph = MakeLayerGraph(TestSpec(config, DType::kBF16), {.tokens = 64});
  // qkv 262,144, output 131,072, 16 of 64 keys for each query 131,072, router 32,768, 2 of 8 experts 1,179,648.
  EXPECT_EQ(graph.nodes[1].flops, 1'736'704);
}

}  // namespace
}  // namespace causeway
