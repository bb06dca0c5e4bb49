#include "engine/graph/report.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/plan/device.h"
#include "engine/plan/unit_table.h"
#include "nlohmann/json.hpp"

namespace causeway {
namespace {

using OrderedJson = nlohmann::ordered_json;
using Row = std::vector<std::string>;

// Aligns the first column and the last `left` columns to the left, and numbers to the right.
std::string Aligned(const std::vector<Row>& rows, size_t left) {
  std::vector<size_t> widths(rows.front().size(), 0);
  for (const Row& row : rows) {
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  std::string text;
  for (const Row& row : rows) {
    std::string line;
    for (size_t c = 0; c < row.size(); ++c) {
      const std::string space(widths[c] - row[c].size(), ' ');
      const bool to_left = c == 0 || c + left >= row.size();
      absl::StrAppend(&line, c == 0 ? "" : "  ", to_left ? row[c] + space : space + row[c]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&text, line, "\n");
  }
  return text;
}

std::string Mebibytes(int64_t bytes) { return absl::StrFormat("%.2f", static_cast<double>(bytes) / (1 << 20)); }
std::string Gigaflops(double flops) { return absl::StrFormat("%.2f", flops / 1e9); }

bool Alike(const GraphNode& a, const GraphNode& b) {
  return a.parameters == b.parameters && a.bytes == b.bytes && a.shared_bytes == b.shared_bytes && a.flops == b.flops;
}

std::string Names(const LayerGraph& graph, int first, int last) {
  return UnitNames(Units::OfCount(static_cast<int>(graph.nodes.size())), UnitRange{first, last}.all());
}

Row NodeRow(const std::string& name, int count, const GraphNode& node, const LayerGraph& graph) {
  const double share = graph.total.flops > 0 ? count * node.flops / graph.total.flops : 0;
  return {name, count > 1 ? absl::StrCat(count, " x ", node.parameters) : absl::StrCat(node.parameters),
          Mebibytes(node.bytes), Gigaflops(node.flops), absl::StrFormat("%.1f%%", 100 * share)};
}

std::string AdviceText(const GraphReport& report) {
  const StageAdvice& advice = report.advice;
  std::string text = advice.reason;
  if (advice.node_binds > 0) {
    absl::StrAppend(&text, " From ", advice.node_binds, " stages on the fullest is ",
                    report.graph.nodes[advice.node].name,
                    " alone, which more stages leave as it is: tensor parallelism divides it.");
  }
  return text;
}

}  // namespace

std::string GraphTable(const GraphReport& report) {
  const LayerGraph& graph = report.graph;
  std::string text = absl::StrCat(graph.model, ", one pass over ", graph.options.batch, " x ", graph.options.tokens,
                                  " tokens in ", DTypeName(graph.options.dtype), "\n\n");
  std::vector<Row> rows = {{"node", "parameters", "MiB", "GFLOP", "of FLOP"}};
  for (size_t i = 0; i < graph.nodes.size();) {
    size_t end = i + 1;  // layers that are alike share a row
    while (end < graph.nodes.size() - 2 && i > 0 && Alike(graph.nodes[i], graph.nodes[end])) ++end;
    rows.push_back(NodeRow(Names(graph, static_cast<int>(i), static_cast<int>(end) - 1), static_cast<int>(end - i),
                           graph.nodes[i], graph));
    if (end - i > 1) rows.back()[0] += ", each";
    i = end;
  }
  rows.push_back(NodeRow(absl::StrCat("total of ", graph.nodes.size(), " nodes"), 1, graph.total, graph));
  text += Aligned(rows, 0);
  if (!graph.edges.empty())
    absl::StrAppend(&text, "Between two nodes go ", Mebibytes(graph.edges[0].bytes), " MiB of hidden states.\n");
  if (graph.nodes.back().shared_bytes > 0) {
    absl::StrAppend(&text, "The head shares the embeddings' weight; a stage without them holds a copy of ",
                    Mebibytes(graph.nodes.back().shared_bytes), " MiB.\n");
  }
  if (!report.cuts.empty()) {
    rows = {{"stages", "even by", "fullest MiB", "variation", "even", "fullest GFLOP", "sent MiB", "fullest stage"}};
    for (const StageCut& cut : report.cuts) {
      const Stage& stage = cut.stages[cut.bottleneck];
      rows.push_back({absl::StrCat(cut.stages.size()), std::string(ObjectiveName(cut.objective)),
                      Mebibytes(cut.fullest_bytes), absl::StrFormat("%.4f", cut.variation),
                      absl::StrFormat("%.0f%%", 100 * cut.evenness), Gigaflops(cut.fullest_flops),
                      Mebibytes(cut.communication_bytes),
                      absl::StrCat(cut.bottleneck, ": ", Names(graph, stage.first, stage.last))});
    }
    absl::StrAppend(&text, "\n", Aligned(rows, 1));
  }
  return absl::StrCat(text, AdviceText(report), "\n");
}

std::string GraphJson(const GraphReport& report) {
  const LayerGraph& graph = report.graph;
  OrderedJson json = {{"model", graph.model},
                      {"batch", graph.options.batch},
                      {"tokens", graph.options.tokens},
                      {"dtype", std::string(DTypeName(graph.options.dtype))}};
  const auto node_json = [](const GraphNode& node) {
    return OrderedJson{{"name", node.name},
                       {"parameters", node.parameters},
                       {"bytes", node.bytes},
                       {"shared_bytes", node.shared_bytes},
                       {"flops", node.flops}};
  };
  json["nodes"] = OrderedJson::array();
  for (const GraphNode& node : graph.nodes) json["nodes"].push_back(node_json(node));
  json["edges"] = OrderedJson::array();
  for (const GraphEdge& edge : graph.edges)
    json["edges"].push_back({{"from", edge.from}, {"to", edge.to}, {"bytes", edge.bytes}});
  json["total"] = node_json(graph.total);
  json["partitions"] = OrderedJson::array();
  for (const StageCut& cut : report.cuts) {
    OrderedJson stages = OrderedJson::array();
    for (const Stage& stage : cut.stages) {
      stages.push_back({{"first", stage.first},
                        {"last", stage.last},
                        {"parameters", stage.parameters},
                        {"bytes", stage.bytes},
                        {"flops", stage.flops}});
    }
    json["partitions"].push_back({{"stages", stages},
                                  {"objective", std::string(ObjectiveName(cut.objective))},
                                  {"bottleneck", cut.bottleneck},
                                  {"fullest_bytes", cut.fullest_bytes},
                                  {"fullest_flops", cut.fullest_flops},
                                  {"variation", cut.variation},
                                  {"evenness", cut.evenness},
                                  {"communication_bytes", cut.communication_bytes}});
  }
  json["advice"] = {{"stages", report.advice.stages}, {"text", AdviceText(report)}};
  return json.dump(2);
}

std::string GraphDot(const GraphReport& report) {
  const LayerGraph& graph = report.graph;
  std::string text = "digraph model {\n  rankdir=LR;\n  node [shape=box];\n";
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const GraphNode& node = graph.nodes[i];
    absl::StrAppend(&text, "  n", i, " [label=\"", node.name, "\\n", FormatBytes(node.bytes), "\\n",
                    Gigaflops(node.flops), " GFLOP\"];\n");
  }
  for (const GraphEdge& edge : graph.edges)
    absl::StrAppend(&text, "  n", edge.from, " -> n", edge.to, " [label=\"", FormatBytes(edge.bytes), "\"];\n");
  if (!report.cuts.empty()) {
    const StageCut& cut = report.cuts.front();
    for (size_t s = 0; s < cut.stages.size(); ++s) {
      absl::StrAppend(&text, "  subgraph cluster_", s, " {\n    label=\"stage ", s, ": ",
                      FormatBytes(cut.stages[s].bytes), "\";\n   ");
      for (int i = cut.stages[s].first; i <= cut.stages[s].last; ++i) absl::StrAppend(&text, " n", i, ";");
      text += "\n  }\n";
    }
  }
  return text + "}\n";
}

}  // namespace causeway
