#include "engine/graph/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/graph/test_graphs.h"
#include "nlohmann/json.hpp"

namespace causeway {
namespace {

using ::testing::HasSubstr;

GraphReport Report() {
  GraphReport report{.graph = MakeLayerGraph(TestLlama({.layers = 4, .tied = true}), {.tokens = 8})};
  report.cuts = {*CutIntoStages(report.graph, 2, Objective::kBytes),
                 *CutIntoStages(report.graph, 4, Objective::kUniform)};
  report.advice = AdviseStages(report.graph, 4, 0);
  return report;
}

TEST(GraphReportTest, TheTableHasARowForLayersThatAreAlike) {
  const std::string table = GraphTable(Report());
  EXPECT_THAT(table, HasSubstr("layers 0-3, each"));
  EXPECT_THAT(table, HasSubstr("total of 7 nodes"));
  EXPECT_THAT(table, HasSubstr("The head shares the embeddings' weight"));
  EXPECT_THAT(table, HasSubstr("uniform"));
}

TEST(GraphReportTest, JsonHoldsAllOfIt) {
  const GraphReport report = Report();
  const nlohmann::json json = nlohmann::json::parse(GraphJson(report));
  ASSERT_EQ(json["nodes"].size(), 7u);
  EXPECT_EQ(json["nodes"][0]["bytes"], report.graph.nodes[0].bytes);
  EXPECT_EQ(json["edges"].size(), 6u);
  EXPECT_EQ(json["total"]["parameters"], report.graph.total.parameters);
  ASSERT_EQ(json["partitions"].size(), 2u);
  EXPECT_EQ(json["partitions"][1]["stages"].size(), 4u);
  EXPECT_EQ(json["partitions"][1]["objective"], "uniform");
  EXPECT_EQ(json["advice"]["stages"], report.advice.stages);
}

TEST(GraphReportTest, DotHasStagesAsClusters) {
  const std::string dot = GraphDot(Report());
  EXPECT_THAT(dot, HasSubstr("n0 -> n1"));
  EXPECT_THAT(dot, HasSubstr("subgraph cluster_1"));
  EXPECT_EQ(dot.find("subgraph cluster_2"), std::string::npos);
}

}  // namespace
}  // namespace causeway
