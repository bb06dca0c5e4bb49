#include "engine/plan/layout.h"

#include <algorithm>
#include <unordered_map>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "engine/plan/memory.h"

namespace causeway {
namespace {

// On a CPU whose memory others use too, what the KV cache may take of the bytes left: half of them and at most this.
constexpr int64_t kSharedKvBytesMax = int64_t{8} << 30;

class Builder {
 public:
  explicit Builder(const LayoutInput& input) : in_(input), device_of_unit_(input.units.count(), -1) {
    for (size_t i = 0; i < in_.devices.size(); ++i) device_of_key_[in_.devices[i].key()] = static_cast<int>(i);
  }

  absl::StatusOr<Layout> Build(const PartMap& map) {
    Plan& plan = layout_.plan;
    plan.options = in_.options;
    for (size_t i = 0; i < in_.devices.size(); ++i) {
      plan.devices.emplace_back();
      plan.devices.back().device = in_.devices[i];
      plan.devices.back().budget = in_.budgets.bytes[i];
    }
    CAUSEWAY_RETURN_IF_ERROR(PlaceParts(map));
    if (!layout_.unplaced.empty() || !layout_.offloaded.empty()) return std::move(layout_);
    AddTiedCopies(map);
    AddUnits();
    FitKvCache();
    plan.device_map = MergeUpwards(map.device_map);
    return std::move(layout_);
  }

 private:
  absl::Status PlaceParts(const PartMap& map) {
    std::vector<std::string> first_part(in_.units.count());
    for (size_t i = 0; i < in_.units.parts.size(); ++i) {
      const int part = in_.units.parts[i];
      const ModuleNode& node = in_.index.node(part);
      const std::string& key = *LookUp(map.device_map, node.path);
      const std::string* reason = LookUp(map.reasons, node.path);
      layout_.plan.modules.push_back({node.path, node.bytes, key, reason != nullptr ? *reason : ""});
      auto found = device_of_key_.find(key);
      if (found == device_of_key_.end()) {
        (key == "disk" ? layout_.unplaced : layout_.offloaded).push_back(part);
        continue;
      }
      layout_.plan.devices[found->second].weights += node.bytes;
      const int unit = in_.units.unit_of_part[i];
      if (unit < 0) continue;
      int& device = device_of_unit_[unit];
      if (device < 0) {
        device = found->second;
        first_part[unit] = node.path;
      } else if (device != found->second) {
        return absl::UnimplementedError(absl::StrCat(
            "the device map puts ", first_part[unit], " on ", in_.devices[device].name, " and ", node.path, " on ",
            in_.devices[found->second].name, ", but these compute together (", UnitNames(in_.units.layers, {unit}),
            ") and must share a device; use device_map auto, or a custom map"));
      }
    }
    for (int unit = 0; unit < in_.units.count(); ++unit) {
      if (device_of_unit_[unit] >= 0 || !layout_.unplaced.empty() || !layout_.offloaded.empty()) continue;
      return absl::InternalError(absl::StrCat("the model's module tree has nothing for ", UnitNames(in_.units.layers, {unit})));
    }
    return absl::OkStatus();
  }

  // A tied weight on another device than its source is there a second time.
  void AddTiedCopies(const PartMap& map) {
    for (const std::vector<int>& group : in_.index.tied()) {
      for (const int tensor : group) {
        const int source = in_.index.TiedSource(tensor);
        if (source < 0) continue;
        const int device = device_of_key_.at(*LookUp(map.device_map, in_.index.node(tensor).path));
        if (device == device_of_key_.at(*LookUp(map.device_map, in_.index.node(source).path))) continue;
        const int64_t bytes = in_.index.node(source).tensor->bytes();
        layout_.plan.devices[device].weights += bytes;
        layout_.plan.tied_head_copied = true;
        for (ModulePlacement& module : layout_.plan.modules) {
          if (!IsPathPrefix(module.name, in_.index.node(tensor).path)) continue;
          module.bytes += bytes;
          const std::string note = absl::StrCat("holds a copy of ", in_.index.node(source).path);
          module.reason = module.reason.empty() ? note : absl::StrCat(module.reason, "; ", note);
        }
      }
    }
  }

  void AddUnits() {
    Plan& plan = layout_.plan;
    for (int unit = 0; unit < in_.units.count(); ++unit) {
      const int device = device_of_unit_[unit];
      plan.devices[device].units.push_back(unit);
      if (!plan.segments.empty() && plan.segments.back().device == device) {
        plan.segments.back().last_unit = unit;
      } else {
        plan.segments.push_back({device, unit, unit});
      }
    }
    const auto used = std::count_if(plan.devices.begin(), plan.devices.end(), [](const DevicePlan& d) { return !d.units.empty(); });
    for (DevicePlan& device : plan.devices) {
      if (in_.weights_only || device.units.empty()) continue;
      device.activations =
          ActivationBytes(in_.spec, device.units, in_.options, device.device.kind) + HandoffBytes(in_.spec, in_.options, static_cast<int>(used));
      device.reserve = ReserveBytes(device.device);
    }
  }

  int64_t BlockBytes(const DevicePlan& device) const {
    const int64_t layers = std::count_if(device.units.begin(), device.units.end(), [this](int u) { return in_.units.is_layer(u); });
    return layers * LayerKvBytesPerBlock(in_.spec, in_.options);
  }

  // Bytes that the KV cache may take of those left.
  int64_t KvRoom(size_t i, int64_t left, int64_t block_bytes) const {
    if (in_.devices[i].kind != DeviceKind::kCpu || in_.budgets.is_given[i]) return left;
    const int64_t shared = std::min(left / 2, kSharedKvBytesMax);
    return std::min(left, std::max(shared, in_.kv.blocks_least * block_bytes));
  }

  void FitKvCache() {
    Plan& plan = layout_.plan;
    plan.kv_bytes_per_token = in_.weights_only ? 0 : in_.units.layers * LayerKvBytesPerToken(in_.spec, in_.options);
    int64_t blocks = in_.weights_only ? 0 : in_.kv.blocks_wanted;
    for (size_t i = 0; i < plan.devices.size(); ++i) {
      const DevicePlan& device = plan.devices[i];
      const int64_t left = device.budget - device.weights - device.activations - device.reserve;
      const int64_t block_bytes = in_.weights_only ? 0 : BlockBytes(device);
      const int64_t least = in_.weights_only ? 0 : in_.kv.blocks_least * block_bytes;
      if (left < least) layout_.misfits.push_back({static_cast<int>(i), least - left});
      const int64_t room = KvRoom(i, left, block_bytes);
      if (block_bytes == 0 || room / block_bytes >= blocks) continue;
      blocks = room / block_bytes;
      plan.kv_cache_shares = room < left;
    }
    plan.kv_blocks = layout_.misfits.empty() || in_.weights_only ? blocks : in_.kv.blocks_least;
    for (DevicePlan& device : plan.devices) {
      device.kv_cache = in_.weights_only ? 0 : plan.kv_blocks * BlockBytes(device);
      device.free = device.budget - device.weights - device.activations - device.reserve - device.kv_cache;
    }
  }

  const LayoutInput& in_;
  std::unordered_map<std::string, int> device_of_key_;
  std::vector<int> device_of_unit_;
  Layout layout_;
};

}  // namespace

absl::StatusOr<Layout> MakeLayout(const LayoutInput& input, const PartMap& map) { return Builder(input).Build(map); }

}  // namespace causeway
