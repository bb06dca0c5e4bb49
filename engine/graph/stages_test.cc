#include "engine/graph/stages.h"

#include <algorithm>
#include <functional>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/graph/test_graphs.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;

double Mebibytes(int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

// The published cut, and our cut over all nodes.
TEST(StagesTest, KnownCutsOfGpt) {
  const LayerGraph graph = Gpt15B();
  struct Known {
    int stages;
    double uniform, uniform_variation, bytes, bytes_variation_max, communication;
  };
  for (const Known& known :
       {Known{2, 3119.54, 0.0000, 3119.54, 0.00005, 6.25}, Known{4, 1713.15, 0.0983, 1595.95, 0.0233, 18.75},
        Known{6, 1244.35, 0.1391, 1054.80, 0.0204, 31.25}, Known{8, 1009.95, 0.1703, 820.40, 0.117, 43.75}}) {
    SCOPED_TRACE(known.stages);
    const StageCut uniform = *CutIntoStages(graph, known.stages, Objective::kUniform),
                   best = *CutIntoStages(graph, known.stages, Objective::kBytes);
    EXPECT_NEAR(Mebibytes(uniform.fullest_bytes), known.uniform, 0.005);
    EXPECT_NEAR(uniform.variation, known.uniform_variation, 0.00005);
    EXPECT_LE(Mebibytes(best.fullest_bytes), known.bytes + 0.005);
    EXPECT_LE(best.variation, known.bytes_variation_max);
    EXPECT_DOUBLE_EQ(Mebibytes(uniform.communication_bytes), known.communication);
    EXPECT_DOUBLE_EQ(Mebibytes(best.communication_bytes), known.communication);
  }
}

double LoadOf(const LayerGraph& graph, int first, int last, Objective objective) {
  double load = 0;
  for (int i = first; i <= last; ++i) {
    const GraphNode& node = graph.nodes[i];
    load += objective == Objective::kFlops ? node.flops
            : objective == Objective::kParameters
                ? static_cast<double>(node.parameters)
                : static_cast<double>(node.bytes + (first > 0 ? node.shared_bytes : 0));
  }
  return load;
}

// The load of the fullest of `stages` stages from node `first` on, the least over every cut.
double BruteForce(const LayerGraph& graph, int first, int stages, Objective objective) {
  const int nodes = static_cast<int>(graph.nodes.size());
  if (stages == 1) return LoadOf(graph, first, nodes - 1, objective);
  double least = 1e300;
  for (int last = first; last <= nodes - stages; ++last) {
    least = std::min(
        least, std::max(LoadOf(graph, first, last, objective), BruteForce(graph, last + 1, stages - 1, objective)));
  }
  return least;
}

TEST(StagesTest, AsGoodAsEveryCut) {
  std::mt19937 random(7);
  const auto between = [&random](int64_t least, int64_t most) {
    return std::uniform_int_distribution<int64_t>(least, most)(random);
  };
  for (int round = 0; round < 300; ++round) {
    LayerGraph graph;
    graph.nodes.resize(between(4, 9));
    for (GraphNode& node : graph.nodes)
      node = {"n", between(0, 50), between(0, 50), 0, static_cast<double>(between(0, 50))};
    graph.nodes.back().shared_bytes = between(0, graph.nodes[0].bytes);
    for (const GraphNode& node : graph.nodes) {
      graph.total.bytes += node.bytes, graph.total.parameters += node.parameters, graph.total.flops += node.flops;
    }
    for (size_t i = 1; i < graph.nodes.size(); ++i)
      graph.edges.push_back({static_cast<int>(i) - 1, static_cast<int>(i), 3});
    for (const Objective objective : {Objective::kParameters, Objective::kBytes, Objective::kFlops}) {
      const int stages = static_cast<int>(between(1, static_cast<int64_t>(graph.nodes.size())));
      const StageCut cut = *CutIntoStages(graph, stages, objective);
      ASSERT_EQ(cut.stages.size(), static_cast<size_t>(stages)) << round;
      const Stage& fullest = cut.stages[cut.bottleneck];
      EXPECT_EQ(LoadOf(graph, fullest.first, fullest.last, objective), BruteForce(graph, 0, stages, objective))
          << round << " " << ObjectiveName(objective);
      EXPECT_EQ(cut.communication_bytes, 3 * (stages - 1));
      for (int s = 0; s < stages; ++s) EXPECT_EQ(cut.stages[s].first, s == 0 ? 0 : cut.stages[s - 1].last + 1);
      EXPECT_EQ(cut.stages.back().last, static_cast<int>(graph.nodes.size()) - 1);
    }
  }
}

TEST(StagesTest, ImpossibleNumbersAreRefused) {
  const LayerGraph graph = MakeLayerGraph(TestLlama({.layers = 4}), {});
  EXPECT_TRUE(CutIntoStages(graph, 7, Objective::kBytes).ok());
  EXPECT_THAT(std::string(CutIntoStages(graph, 8, Objective::kBytes).status().message()), HasSubstr("1 to 7 stages"));
  EXPECT_THAT(std::string(CutIntoStages(graph, 5, Objective::kUniform).status().message()),
              HasSubstr("1 to 4 stages with objective uniform"));
  EXPECT_FALSE(CutIntoStages(graph, 0, Objective::kFlops).ok());
}

TEST(StagesTest, AdviceSaysWhatBinds) {
  const LayerGraph graph = Gpt15B();
  const StageAdvice fit = AdviseStages(graph, 8, int64_t{2} << 30);
  EXPECT_EQ(fit.stages, 4);
  EXPECT_THAT(fit.reason, HasSubstr("fewest"));
  EXPECT_EQ(AdviseStages(graph, 8, int64_t{1} << 29).stages, 0);
  const StageAdvice even = AdviseStages(graph, 51, 0);
  EXPECT_GE(CutIntoStages(graph, even.stages, Objective::kBytes)->evenness, 0.9);
  // The embeddings have 306.7 MiB, which is more than two layers.
  EXPECT_EQ(graph.nodes[even.node].bytes, graph.nodes[0].bytes);
  EXPECT_EQ(CutIntoStages(graph, even.node_binds, Objective::kBytes)->fullest_bytes, graph.nodes[0].bytes);
  EXPECT_GT(CutIntoStages(graph, even.node_binds - 1, Objective::kBytes)->fullest_bytes, graph.nodes[0].bytes);
}

}  // namespace
}  // namespace causeway
