#include "engine/strategy/work.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "engine/architecture/shard.h"
#include "engine/graph/graph.h"
#include "engine/plan/memory.h"
#include "engine/plan/module_sizes.h"

namespace causeway {
namespace {

int64_t Bytes(const LinearSpec& linear, DType dtype) {
  return WeightBytes(linear.format, DTypeBytes(dtype), linear.out_features(), linear.in_features);
}
double RowFlops(const LinearSpec& linear) {
  return 2 * static_cast<double>(linear.in_features) * static_cast<double>(linear.out_features());
}

std::string FormatName(const WeightFormat& format, DType dtype) {
  switch (format.kind) {
    case WeightKind::kInt8: return "int8";
    case WeightKind::kInt4: return "int4";
    case WeightKind::kFp8: return "fp8";
    case WeightKind::kFloat: break;
  }
  return std::string(DTypeName(dtype));
}

void AddLayer(const ModelSpec& spec, const LayerSpec& layer, const PlanOptions& options, UnitWork& work) {
  const AttentionSpec& attention = layer.attention;
  work.read_bytes = Bytes(attention.qkv, options.dtype) + Bytes(attention.output, options.dtype);
  work.row_flops = RowFlops(attention.qkv) + RowFlops(attention.output);
  work.key_flops = 4 * static_cast<double>(spec.heads * spec.head_dim);
  work.kv_bytes = LayerKvBytesPerToken(spec, options);
  work.window = attention.sliding_window;
  // Two norms of sums read and write both, a rotation its row in place, an activation reads gate and up and writes one.
  const LinearSpec& down = layer.moe.has_value() ? layer.moe->experts.front().down : layer.mlp.down;
  const int64_t activated = (layer.moe.has_value() ? layer.moe->rule.experts_per_token : 1) * down.in_features;
  work.row_bytes =
      DTypeBytes(options.dtype) * (2 * 4 * spec.hidden_size + 2 * attention.qkv.out_features() + 3 * activated);
  // After attention and after the MLP; norms over all heads need the ranks' sums.
  work.collectives = 2 + (NormsAllHeads(attention) ? 1 : 0);
  if (!layer.moe.has_value()) {
    work.read_bytes += Bytes(layer.mlp.up, options.dtype) + Bytes(layer.mlp.down, options.dtype);
    work.row_flops += RowFlops(layer.mlp.up) + RowFlops(layer.mlp.down);
    return;
  }
  const MlpSpec& expert = layer.moe->experts.front();  // all are of one shape
  work.experts = static_cast<int64_t>(layer.moe->experts.size());
  work.experts_per_token = layer.moe->rule.experts_per_token;
  work.expert_bytes = Bytes(expert.up, options.dtype) + Bytes(expert.down, options.dtype);
  work.read_bytes += Bytes(layer.moe->router, options.dtype);
  work.row_flops += RowFlops(layer.moe->router) +
                    static_cast<double>(work.experts_per_token) * (RowFlops(expert.up) + RowFlops(expert.down));
}

}  // namespace

ModelWork MakeModelWork(const ModelSpec& spec, const PlanOptions& options) {
  const LayerGraph graph = MakeLayerGraph(spec, {.batch = 1, .tokens = 1, .dtype = options.dtype});
  ModelWork work;
  work.dtype = options.dtype;
  work.hidden_row_bytes = spec.hidden_size * DTypeBytes(options.dtype);
  // What no unit needs where it lies (rotary buffers) follows the final norm.
  work.total_bytes = ModuleIndex(spec.modules, /*inside_blocks=*/false).node(0).bytes;
  const LayerSpec& layer = spec.layers.front();
  work.format =
      FormatName(layer.moe.has_value() ? layer.moe->experts.front().up.format : layer.mlp.up.format, options.dtype);
  work.head_format = FormatName(spec.head.format, options.dtype);
  const Units units = UnitsOf(spec);
  for (const int u : units.all()) {
    UnitWork& unit = work.units.emplace_back();
    unit.bytes = graph.nodes[u].bytes;
    if (!units.is_layer(u)) continue;
    AddLayer(spec, spec.layers[Units::LayerOf(u)], options, unit);
    unit.read_bytes = std::max(unit.read_bytes, unit.bytes - unit.experts * unit.expert_bytes);  // norms, too
  }
  UnitWork& norm = work.units[units.norm()];
  norm.read_bytes = norm.bytes += work.total_bytes - graph.total.bytes;
  UnitWork& head = work.units[units.head()];
  head.copy_bytes = graph.nodes[units.head()].shared_bytes;
  head.read_bytes = Bytes(spec.head, options.dtype);
  head.row_flops = RowFlops(spec.head);
  return work;
}

double ExpectedExperts(int64_t experts, int64_t chosen, double rows) {
  if (experts == 0) return 0;
  const double all = static_cast<double>(experts);
  return all * (1 - std::pow(1 - static_cast<double>(chosen) / all, rows));
}

}  // namespace causeway
