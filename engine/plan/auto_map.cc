#include "engine/plan/auto_map.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/plan/memory.h"

namespace causeway {
namespace {

// One unit with its parts, or parts that no unit needs where they lie.
struct Item {
  int unit = -1;
  std::vector<int> parts;
  int64_t bytes = 0;
};

// In execution order; parts without a unit stay behind what they follow in the tree.
std::vector<Item> MakeItems(const ModuleIndex& index, const UnitTable& units) {
  std::vector<std::vector<Item>> after(units.count());  // the unit's item, then those behind it
  for (int unit = 0; unit < units.count(); ++unit) after[unit].push_back({.unit = unit, .parts = {}, .bytes = 0});
  int last = 0;
  for (size_t i = 0; i < units.parts.size(); ++i) {
    const int part = units.parts[i];
    const int64_t bytes = index.node(part).bytes;
    if (units.unit_of_part[i] >= 0) last = units.unit_of_part[i];
    std::vector<Item>& group = after[last];
    if (units.unit_of_part[i] < 0 && bytes > 0 && group.size() == 1) group.emplace_back();
    Item& item = units.unit_of_part[i] >= 0 ? group.front() : group.back();
    item.parts.push_back(part);
    item.bytes += bytes;
  }
  std::vector<Item> items;
  for (std::vector<Item>& group : after) std::move(group.begin(), group.end(), std::back_inserter(items));
  return items;
}

struct Costing {
  const ModelSpec& spec;
  const UnitTable& units;
  const PlanOptions& options;
  bool weights_only;
  DeviceKind kind;   // of the devices, for what operations need
  int64_t handoff;   // on every device in use
  std::vector<int64_t> layer_activations;  // by layer
  int64_t head_copy;  // bytes that a tied head needs on a device without the embedding
  bool head_returns;  // a tied head is no item, but computed on the first item's device
};

StageCosts MakeCosts(const std::vector<Item>& items, const Costing& costing) {
  const int count = static_cast<int>(items.size());
  StageCosts costs(count);
  for (int first = 0; first < count; ++first) {
    StageShape shape;
    shape.head = costing.head_returns && first == 0;
    int64_t weights = 0, layers = 0;
    bool has_unit = false;
    for (int last = first; last < count; ++last) {
      const int unit = items[last].unit;
      weights += items[last].bytes;
      has_unit |= unit >= 0;
      shape.embeddings |= unit == 0;
      shape.norm |= unit == costing.units.layers + 1;
      if (costing.units.is_layer(unit)) {
        shape.layer_bytes = std::max(shape.layer_bytes, costing.layer_activations[unit - 1]);
        ++layers;
      }
      if (unit == costing.units.head()) {
        shape.head = true;
        if (!shape.embeddings) weights += costing.head_copy;
      }
      StageCosts::Cost& cost = costs.at(first, last);
      cost.allowed = has_unit;
      cost.fixed_bytes = weights + (costing.weights_only ? 0 : StageActivationBytes(costing.spec, shape, costing.options, costing.kind) + costing.handoff);
      cost.block_bytes = costing.weights_only ? 0 : layers * LayerKvBytesPerBlock(costing.spec, costing.options);
    }
  }
  return costs;
}

struct Candidate {
  int64_t blocks = 0;
  Partition partition;
};

Candidate Solve(const std::vector<Item>& items, const Costing& costing, absl::Span<const StageDevice> stages, const KvDemand& kv) {
  const StageCosts costs = MakeCosts(items, costing);
  Candidate candidate;
  candidate.blocks = std::max(kv.blocks_least, MostBlocks(costs, stages, kv.blocks_wanted));
  candidate.partition = BestPartition(costs, stages, candidate.blocks);
  return candidate;
}

bool Better(const Candidate& a, const Candidate& b) {
  return a.blocks > b.blocks || (a.blocks == b.blocks && a.partition.fullest < b.partition.fullest);
}

// All on the device that this leaves least full, without hidden states to hand over.
Candidate SolveAlone(const std::vector<Item>& items, Costing costing, absl::Span<const StageDevice> stages, const KvDemand& kv) {
  costing.handoff = 0;
  const StageCosts costs = MakeCosts(items, costing);
  StageCosts one(1);
  one.at(0, 0) = costs.at(0, costs.items() - 1);
  Candidate candidate;
  candidate.blocks = std::max(kv.blocks_least, MostBlocks(one, stages, kv.blocks_wanted));
  candidate.partition = BestPartition(one, stages, candidate.blocks);
  candidate.partition.device_of_item.resize(items.size(), candidate.partition.device_of_item[0]);
  return candidate;
}

}  // namespace

PartMap AutoMap(const ModelSpec& spec, const ModuleIndex& index, const UnitTable& units, absl::Span<const Device> devices,
                absl::Span<const StageDevice> stages, const PlanOptions& options, const KvDemand& kv, bool weights_only) {
  std::vector<Item> items = MakeItems(index, units);
  const bool cuda = std::any_of(devices.begin(), devices.end(), [](const Device& device) { return device.kind == DeviceKind::kCuda; });
  Costing costing{.spec = spec, .units = units, .options = options, .weights_only = weights_only,
                  .kind = cuda ? DeviceKind::kCuda : DeviceKind::kCpu, .handoff = 0, .layer_activations = {}, .head_copy = 0,
                  .head_returns = false};
  // As many devices as can be used; when fewer are, the layout takes the difference off all of them alike.
  const auto live = std::count_if(stages.begin(), stages.end(), [](const StageDevice& stage) { return stage.budget > 0; });
  costing.handoff = HandoffBytes(spec, options, static_cast<int>(std::min<int64_t>(live, units.count())));
  for (const LayerSpec& layer : spec.layers) {
    costing.layer_activations.push_back(LayerActivationBytes(spec, layer, options, costing.kind));
  }
  if (spec.tied_head) costing.head_copy = index.node(index.Find(spec.embedding_weight)).bytes;

  const Candidate alone = SolveAlone(items, costing, stages, kv);
  Candidate best = Solve(items, costing, stages, kv);
  if (spec.tied_head && items.back().unit == units.head()) {
    // Back to the embedding's device: the head is no item of its own, its few own bytes (a bias) go with the first.
    std::vector<Item> rest(items.begin(), items.end() - 1);
    rest.front().bytes += items.back().bytes;
    costing.head_returns = true;
    Candidate back = Solve(rest, costing, stages, kv);
    if (Better(back, best) && Better(back, alone)) {
      rest.front().parts.insert(rest.front().parts.end(), items.back().parts.begin(), items.back().parts.end());
      items = std::move(rest);
      best = std::move(back);
    }
  }

  if (!Better(best, alone)) best = alone;

  const std::vector<int>& device_of_item = best.partition.device_of_item;
  std::vector<int> stage_of(devices.size(), 0);  // counted from 1 over the devices that hold something
  int stage_count = 0;
  for (const int device : device_of_item) {
    if (stage_of[device] == 0) stage_of[device] = ++stage_count;
  }
  PartMap map;
  for (size_t i = 0; i < items.size(); ++i) {
    const Device& device = devices[device_of_item[i]];
    std::string reason = absl::StrFormat("stage %d of %d; of all cuts into stages this leaves the fullest device least full, at %.1f%%",
                                         stage_of[device_of_item[i]], stage_count, 100 * best.partition.fullest);
    for (const int part : items[i].parts) {
      const std::string& path = index.node(part).path;
      map.device_map[path] = device.key();
      map.reasons[path] = reason;
      if (path != spec.head_path || !spec.tied_head || stage_count == 1) continue;
      map.reasons[path] = costing.head_returns && i == 0
                              ? "back on the embedding's device, whose weight it shares: a copy would make the fullest device fuller"
                              : "with a copy of the embedding's weight: it fits beside the last layers and saves a hop";
    }
  }
  return map;
}

}  // namespace causeway
