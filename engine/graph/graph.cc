#include "engine/graph/graph.h"

#include <algorithm>
#include <numeric>

#include "engine/plan/module_sizes.h"
#include "engine/plan/unit_table.h"

namespace causeway {
namespace {

double LinearFlops(const LinearSpec& linear, double rows) {
  return 2 * rows * static_cast<double>(linear.in_features) * static_cast<double>(linear.out_features());
}

double LayerFlops(const ModelSpec& spec, const LayerSpec& layer, const GraphOptions& options) {
  const double rows = static_cast<double>(options.batch * options.tokens);
  const int64_t window = layer.attention.sliding_window;
  const double keys = static_cast<double>(window > 0 ? std::min(window, options.tokens) : options.tokens);
  double flops = LinearFlops(layer.attention.qkv, rows) + LinearFlops(layer.attention.output, rows);
  flops += 4 * rows * keys * static_cast<double>(spec.heads * spec.head_dim);  // queries with keys, weights with values
  if (!layer.moe.has_value()) return flops + LinearFlops(layer.mlp.up, rows) + LinearFlops(layer.mlp.down, rows);
  const MlpSpec& expert = layer.moe->experts.front();  // all are of one shape
  const double chosen = rows * static_cast<double>(layer.moe->rule.experts_per_token);
  return flops + LinearFlops(layer.moe->router, rows) + LinearFlops(expert.up, chosen) +
         LinearFlops(expert.down, chosen);
}

// Tied ones and buffers left out.
int64_t OwnParameters(const Parameter& tensor) {
  return tensor.buffer || !tensor.tied_to.empty() ? 0 : tensor.parameter_count();
}
int64_t OwnParameters(const Module& module) {
  int64_t count = 0;
  for (const Parameter& tensor : module.parameters) count += OwnParameters(tensor);
  for (const Module& child : module.children) count += OwnParameters(child);
  return count;
}

}  // namespace

LayerGraph MakeLayerGraph(const ModelSpec& spec, const GraphOptions& options) {
  const ModuleIndex index(spec.modules, /*inside_blocks=*/false);
  const UnitTable table = MakeUnitTable(spec, index);
  LayerGraph graph;
  graph.model = spec.title();
  graph.options = options;
  graph.nodes.resize(table.count());
  for (int unit = 0; unit < table.count(); ++unit) graph.nodes[unit].name = UnitNames(table, {unit});
  for (size_t p = 0; p < table.parts.size(); ++p) {
    if (table.unit_of_part[p] < 0) continue;
    GraphNode& node = graph.nodes[table.unit_of_part[p]];
    const ModuleNode& part = index.node(table.parts[p]);
    node.bytes += part.bytes;
    node.parameters += part.tensor != nullptr ? OwnParameters(*part.tensor) : OwnParameters(*part.module);
  }
  for (int i = 0; i < table.layers; ++i)
    graph.nodes[Units::OfLayer(i)].flops = LayerFlops(spec, spec.layers[i], options);
  GraphNode& head = graph.nodes[table.head()];
  head.flops = LinearFlops(spec.head, static_cast<double>(options.batch * options.tokens));
  if (spec.tied_head) head.shared_bytes = index.node(index.Find(spec.embedding_weight)).bytes;

  const int64_t hidden_states = options.batch * options.tokens * spec.hidden_size * DTypeBytes(options.dtype);
  for (int unit = 1; unit < table.count(); ++unit) graph.edges.push_back({unit - 1, unit, hidden_states});
  graph.total.name = "total";
  for (const GraphNode& node : graph.nodes) {
    graph.total.parameters += node.parameters;
    graph.total.bytes += node.bytes;
    graph.total.flops += node.flops;
  }
  return graph;
}

}  // namespace causeway
