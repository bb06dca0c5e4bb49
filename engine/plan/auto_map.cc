#include "engine/plan/auto_map.h"

#include <algorithm>
#include <numeric>
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

// What runs of items cost, out of sums over the items before each.
class RunCosts {
 public:
  // With `head_returns`, a tied head is no item, but computed on the first item's device.
  RunCosts(const AutoInput& in, const std::vector<Item>& items, bool head_returns)
      : in_(in), head_returns_(head_returns) {
    const bool cuda = std::any_of(in.devices.begin(), in.devices.end(),
                                  [](const Device& device) { return device.kind == DeviceKind::kCuda; });
    const DeviceKind kind = cuda ? DeviceKind::kCuda : DeviceKind::kCpu;
    // Few layers differ in what they need.
    std::vector<int64_t> needs;
    for (const LayerSpec& layer : in.spec.layers)
      needs.push_back(in.weights_only ? 0 : LayerActivationBytes(in.spec, layer, in.options, kind));
    sizes_ = needs;
    std::sort(sizes_.begin(), sizes_.end());
    sizes_.erase(std::unique(sizes_.begin(), sizes_.end()), sizes_.end());
    layers_.assign(sizes_.size(), {0});
    for (size_t i = 0; i < items.size(); ++i) {
      const int unit = items[i].unit;
      if (unit == in.units.norm()) norm_ = static_cast<int>(i);
      if (unit == in.units.head()) head_ = static_cast<int>(i);
      bytes_.push_back(bytes_.back() + items[i].bytes);
      units_.push_back(units_.back() + (unit >= 0));
      for (size_t size = 0; size < sizes_.size(); ++size) {
        layers_[size].push_back(layers_[size].back() +
                                (in.units.is_layer(unit) && needs[Units::LayerOf(unit)] == sizes_[size]));
      }
    }
    block_bytes_ = in.weights_only ? 0 : LayerKvBytesPerBlock(in.spec, in.options);
    if (in.spec.tied_head) head_copy_ = in.index.node(in.index.Find(in.spec.embedding_weight)).bytes;
    for (size_t size = 0; size <= sizes_.size(); ++size) {
      for (int held = 0; held < 8; ++held) {
        const StageShape shape{.embeddings = (held & kEmbeddings) > 0,
                               .norm = (held & kNorm) > 0,
                               .head = (held & kHead) > 0,
                               .layer_bytes = size == 0 ? 0 : sizes_[size - 1]};
        activations_.push_back(in.weights_only ? 0 : StageActivationBytes(in.spec, shape, in.options, kind));
      }
    }
  }

  StageCost operator()(int first, int last) const {
    const auto holds = [&](int item) { return first <= item && item <= last; };
    StageCost cost;
    cost.computes = units_[last + 1] > units_[first];
    cost.fixed_bytes = bytes_[last + 1] - bytes_[first];
    if (!cost.computes) return cost;
    if (holds(head_) && first > 0) cost.fixed_bytes += head_copy_;
    size_t hungriest = 0;
    int layers = 0;
    for (size_t size = 0; size < sizes_.size(); ++size) {
      const int count = layers_[size][last + 1] - layers_[size][first];
      layers += count;
      if (count > 0) hungriest = size + 1;
    }
    const int held = (first == 0 ? kEmbeddings : 0) | (holds(norm_) ? kNorm : 0) |
                     (holds(head_) || (head_returns_ && first == 0) ? kHead : 0);
    cost.fixed_bytes += activations_[hungriest * 8 + held];
    cost.block_bytes = layers * block_bytes_;
    return cost;
  }

 private:
  enum { kEmbeddings = 1, kNorm = 2, kHead = 4 };

  const AutoInput& in_;
  const bool head_returns_;
  int norm_ = -1, head_ = -1;  // items
  std::vector<int64_t> bytes_ = {0};
  std::vector<int> units_ = {0};
  std::vector<int64_t> sizes_;            // layers' activations, ascending
  std::vector<std::vector<int>> layers_;  // by size: how many
  std::vector<int64_t> activations_;  // of a stage, by the largest size (from 1 on; 0: no layer) and what else it holds
  int64_t block_bytes_ = 0;
  int64_t head_copy_ = 0;  // what a tied head needs on a device without the embedding
};

StageCosts MakeCosts(const AutoInput& in, const std::vector<Item>& items, bool head_returns) {
  StageCosts costs{
      .items = static_cast<int>(items.size()), .of = RunCosts(in, items, head_returns), .handoff_bytes = {}};
  for (size_t stages = 0; stages <= in.devices.size(); ++stages) {
    costs.handoff_bytes.push_back(
        in.weights_only ? 0 : HandoffBytes(in.spec, in.options, static_cast<int>(stages), in.devices.front().kind));
  }
  return costs;
}

// The devices in the order in which they are filled.
struct Fleet {
  explicit Fleet(const AutoInput& in) : order(in.devices.size()) {
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return in.devices[a].id < in.devices[b].id; });
    for (const int device : order) stages.push_back(in.stages[device]);
  }
  std::vector<int> order;  // indices of devices
  std::vector<StageDevice> stages;
};

// A cut, with the tied head as the last item or back on the first one's device.
struct Candidate {
  std::vector<Item> items;
  bool head_returns = false;
  int64_t blocks = 0;
  Partition partition;
};

std::vector<Candidate> Candidates(const AutoInput& in) {
  std::vector<Candidate> candidates(1);
  candidates[0].items = MakeItems(in.index, in.units);
  if (!in.spec.tied_head) return candidates;
  // Back on the embedding's device, the head is no item of its own; its few own bytes (a bias) go with the first.
  candidates.push_back(candidates[0]);
  candidates[1].head_returns = true;
  std::vector<Item>& items = candidates[1].items;
  const auto head =
      std::find_if(items.begin(), items.end(), [&](const Item& item) { return item.unit == in.units.head(); });
  items.front().bytes += head->bytes;
  items.front().parts.insert(items.front().parts.end(), head->parts.begin(), head->parts.end());
  items.erase(head);
  return candidates;
}

bool Better(const Candidate& a, const Candidate& b) {
  return a.blocks > b.blocks || (a.blocks == b.blocks && a.partition.fullest < b.partition.fullest);
}

}  // namespace

int64_t AutoBlocks(const AutoInput& input) {
  const Fleet fleet(input);
  int64_t most = -1;
  for (const Candidate& candidate : Candidates(input)) {
    if (most == input.kv.blocks_wanted) break;
    const StageCosts costs = MakeCosts(input, candidate.items, candidate.head_returns);
    most = std::max(most, MostBlocks(costs, fleet.stages, input.kv.blocks_wanted));
  }
  return most < input.kv.blocks_least ? -1 : most;
}

PartMap AutoMap(const AutoInput& input) {
  const Fleet fleet(input);
  Candidate best;
  for (Candidate& candidate : Candidates(input)) {
    const StageCosts costs = MakeCosts(input, candidate.items, candidate.head_returns);
    candidate.blocks = std::max(input.kv.blocks_least, MostBlocks(costs, fleet.stages, input.kv.blocks_wanted));
    candidate.partition = BestPartition(costs, fleet.stages, candidate.blocks);
    if (best.items.empty() || Better(candidate, best)) best = std::move(candidate);
  }

  std::vector<int> stage_of(input.devices.size(), 0);  // counted from 1 over the devices that hold something
  int stage_count = 0;
  for (const int device : best.partition.device_of_item) {
    if (stage_of[device] == 0) stage_of[device] = ++stage_count;
  }
  PartMap map;
  for (size_t i = 0; i < best.items.size(); ++i) {
    const int stage = best.partition.device_of_item[i];
    const std::string key = input.devices[fleet.order[stage]].key();
    const std::string reason =
        absl::StrFormat("stage %d of %d; of all cuts into stages this leaves the fullest device least full, at %.1f%%",
                        stage_of[stage], stage_count, 100 * best.partition.fullest);
    for (const int part : best.items[i].parts) {
      const std::string& path = input.index.node(part).path;
      map.device_map[path] = key;
      map.reasons[path] = reason;
      if (path != input.spec.head_path || !input.spec.tied_head || stage_count == 1) continue;
      map.reasons[path] =
          best.head_returns
              ? "back on the embedding's device, whose weight it shares: a copy would make the fullest device fuller"
              : "with a copy of the embedding's weight: it fits beside the last layers and saves a hop";
    }
  }
  return map;
}

}  // namespace causeway
