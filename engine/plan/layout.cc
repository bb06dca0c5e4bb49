#include "engine/plan/layout.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "engine/plan/field_policy.h"
#include "engine/plan/memory.h"

namespace causeway {
namespace {

// On a CPU whose memory others use too, what the KV cache may take of the bytes left: half of them and at most this.
constexpr int64_t kSharedKvBytesMax = int64_t{8} << 30;

// The path of the module around a module; "" around the outermost.
std::string Around(const std::string& path) {
  return path.substr(0, path.find('.') == std::string::npos ? 0 : path.rfind('.'));
}

// Whether the map says anything about what is inside `path`.
bool HasKeyInside(const std::map<std::string, std::string>& device_map, const std::string& path) {
  const auto next = device_map.upper_bound(absl::StrCat(path, "."));
  return next != device_map.end() && IsPathPrefix(path, next->first);
}

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
    if (in_.names) plan.device_map = MergeUpwards(map.device_map);
    CAUSEWAY_RETURN_IF_ERROR(Offload(map));
    FitKvCache();
    return std::move(layout_);
  }

 private:
  absl::Status PlaceParts(const PartMap& map) {
    std::vector<std::string> first_part(in_.units.count());
    for (size_t i = 0; i < in_.units.parts.size(); ++i) {
      const int part = in_.units.parts[i];
      const ModuleNode& node = in_.index.node(part);
      const std::string& key = *LookUp(map.device_map, node.path);
      if (in_.names) {
        const std::string* reason = LookUp(map.reasons, node.path);
        layout_.plan.modules.push_back({node.path, node.bytes, key, reason != nullptr ? *reason : ""});
      }
      auto found = device_of_key_.find(key);
      const int unit = in_.units.unit_of_part[i];
      if (found == device_of_key_.end()) {
        if (!HasTier(key)) (TierNamed(key) == Tier::kDisk ? layout_.unplaced : layout_.offloaded).push_back(part);
        in_tiers_.push_back({unit, node.bytes});
        if (in_.weights_only)
          (TierNamed(key) == Tier::kDisk ? layout_.plan.offloaded_to_disk : layout_.plan.offloaded_to_cpu) +=
              node.bytes;
        continue;
      }
      layout_.plan.devices[found->second].weights += node.bytes;
      if (unit < 0) continue;
      int& device = device_of_unit_[unit];
      if (device < 0) {
        device = found->second;
        first_part[unit] = node.path;
      } else if (device != found->second) {
        return absl::UnimplementedError(absl::StrCat(
            "the device map puts ", first_part[unit], " on ", in_.devices[device].name, " and ", node.path, " on ",
            in_.devices[found->second].name, ", but these compute together (", UnitNames(in_.units, {unit}),
            ") and must share a device; use device_map auto, or a custom map"));
      }
    }
    AssignTiers();
    for (int unit = 0; unit < in_.units.count(); ++unit) {
      if (device_of_unit_[unit] >= 0 || !layout_.unplaced.empty() || !layout_.offloaded.empty()) continue;
      return absl::InternalError(
          absl::StrCat("the model's module tree has nothing for ", UnitNames(in_.units, {unit})));
    }
    return absl::OkStatus();
  }

  bool HasTier(const std::string& key) const {
    return TierNamed(key) == Tier::kDisk ? in_.options.offload_to_disk : in_.budgets.cpu_offload_bytes > 0;
  }

  // What lies in a tier is computed on the device of the unit before it (or after it, where there is none before). For
  // now it counts as held there; Offload takes away what is not.
  void AssignTiers() {
    const auto live =
        std::find_if(in_.budgets.bytes.begin(), in_.budgets.bytes.end(), [](int64_t bytes) { return bytes > 0; });
    int device = static_cast<int>(live - in_.budgets.bytes.begin());  // MakeBudgets has seen to one
    if (auto first = std::find_if(device_of_unit_.begin(), device_of_unit_.end(), [](int d) { return d >= 0; });
        first != device_of_unit_.end())
      device = *first;
    const int front = device;
    for (int unit = 0; unit < in_.units.count(); ++unit) {
      const bool here =
          std::any_of(in_tiers_.begin(), in_tiers_.end(), [unit](const auto& part) { return part.first == unit; });
      if (device_of_unit_[unit] < 0 && here) device_of_unit_[unit] = device;
      if (device_of_unit_[unit] >= 0) device = device_of_unit_[unit];
    }
    if (in_.weights_only) return;  // the field's view: what is elsewhere takes nothing of a device
    for (const auto& [unit, bytes] : in_tiers_)
      layout_.plan.devices[unit >= 0 ? device_of_unit_[unit] : front].weights += bytes;
  }

  // The device that computes from a tensor.
  int DeviceOf(const PartMap& map, const std::string& tensor) const {
    if (auto found = device_of_key_.find(*LookUp(map.device_map, tensor)); found != device_of_key_.end())
      return found->second;
    for (size_t i = 0; i < in_.units.parts.size(); ++i) {
      const int unit = in_.units.unit_of_part[i];
      if (unit >= 0 && IsPathPrefix(in_.index.node(in_.units.parts[i]).path, tensor)) return device_of_unit_[unit];
    }
    return device_of_unit_.front();
  }

  // A tied weight on another device than its source is there a second time.
  void AddTiedCopies(const PartMap& map) {
    for (const std::vector<int>& group : in_.index.tied()) {
      for (const int tensor : group) {
        const int source = in_.index.TiedSource(tensor);
        if (source < 0) continue;
        const int device = DeviceOf(map, in_.index.node(tensor).path);
        if (device == DeviceOf(map, in_.index.node(source).path)) continue;
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
      if (!plan.segments.empty() && plan.segments.back().device() == device) {
        plan.segments.back().units.last = unit;
      } else {
        plan.segments.push_back({{unit, unit}, {device}});
      }
    }
    const auto used =
        std::count_if(plan.devices.begin(), plan.devices.end(), [](const DevicePlan& d) { return !d.units.empty(); });
    for (size_t i = 0; i < plan.devices.size(); ++i) {
      DevicePlan& device = plan.devices[i];
      if (in_.weights_only || device.units.empty()) continue;
      device.activations = ActivationBytes(in_.spec, device.units, in_.options, device.device.kind) +
                           HandoffBytes(in_.spec, in_.options, static_cast<int>(used), device.device.kind);
      device.reserve = in_.reserve(i);
    }
  }

  // The pieces that a device computes from, and those of them that the map has in a tier.
  struct Held {
    std::vector<PieceRun> pieces;
    PieceList mapped;
    std::vector<Tier> tiers;  // of those
  };

  std::vector<Held> HeldByDevice(const PartMap& map, const std::vector<PieceRun>& runs) const {
    std::vector<Held> held(in_.devices.size());
    const std::string* key = nullptr;
    int looked_up = -1;  // a layer all of whose pieces are in one place
    for (const PieceRun& run : runs) {
      Held& device = held[device_of_unit_[run.piece->unit]];
      device.pieces.push_back(run);
      for (int64_t i = 0; i < run.count; ++i) {
        const OffloadPiece& piece = run.piece[i];
        if (piece.unit != looked_up) {
          key = LookUp(map.device_map, piece.module);
          const bool alike = in_.units.is_layer(piece.unit) &&
                             !HasKeyInside(map.device_map, in_.spec.layers[Units::LayerOf(piece.unit)].path);
          looked_up = alike ? piece.unit : -1;
        }
        if (device_of_key_.contains(*key)) continue;
        device.mapped.push_back(&piece);
        device.tiers.push_back(*TierNamed(*key));
      }
    }
    return held;
  }

  // Whether a map written by hand has only pieces in tiers, with all around them, and parts.
  absl::Status CheckTiers(const PartMap& map, const std::vector<OffloadPiece>& pieces, bool head_shares) const {
    std::unordered_set<std::string> whole;
    for (const OffloadPiece& piece : pieces) {
      for (std::string path = piece.module; whole.insert(path).second;) path = Around(path);
    }
    for (const int part : in_.units.parts) whole.insert(in_.index.node(part).path);
    for (const auto& [path, key] : map.device_map) {
      if (device_of_key_.contains(key) || whole.contains(path)) continue;
      const auto around = std::find_if(pieces.begin(), pieces.end(), [&path = path](const OffloadPiece& piece) {
        return IsPathPrefix(piece.module, path);
      });
      return absl::InvalidArgumentError(absl::StrCat(
          "device_map: \"", path, "\" is to be on ", key, ", where attention, MLPs and experts go as a whole",
          around == pieces.end() ? ", and norms and routers not at all"
                                 : absl::StrCat("; put \"", around->module, "\" there")));
    }
    const std::string* head = LookUp(map.device_map, in_.spec.head_path);
    const std::string* table = LookUp(map.device_map, in_.spec.embedding_path);
    if (head_shares && !device_of_key_.contains(*head) && device_of_key_.contains(*table)) {
      return absl::InvalidArgumentError(absl::StrCat("device_map: \"", in_.spec.head_path, "\" is to be on ", *head,
                                                     ", and shares the weight of \"", in_.spec.embedding_path,
                                                     "\", which is to be on ", *table, "; put both there, or neither"));
    }
    return absl::OkStatus();
  }

  // Takes away what the map has in a tier, and where a policy leaves that to us, what a device has no room for.
  absl::Status Offload(const PartMap& map) {
    const bool custom = in_.options.device_map == "custom",
               ours = !custom && !FieldStrategyNamed(in_.options.device_map);
    Plan& plan = layout_.plan;
    std::vector<int64_t> excess;
    for (const DevicePlan& device : plan.devices) {
      const int64_t kv = in_.weights_only ? 0 : in_.kv.blocks_least * BlockBytes(device);
      excess.push_back(device.weights + device.activations + device.reserve + kv - device.budget);
    }
    const bool tiers = in_.options.offload_to_disk || in_.budgets.cpu_offload_bytes > 0;
    const bool is_short = std::any_of(excess.begin(), excess.end(), [](int64_t bytes) { return bytes > 0; });
    if (in_.weights_only && !ours) return absl::OkStatus();
    if (in_tiers_.empty() && !custom && !(ours && tiers && is_short)) return absl::OkStatus();

    const bool head_shares = in_.spec.tied_head && device_of_unit_.front() == device_of_unit_.back();
    if (custom) CAUSEWAY_RETURN_IF_ERROR(CheckTiers(map, in_.pieces.All(head_shares), head_shares));
    const std::vector<Held> held = HeldByDevice(map, in_.pieces.Runs(head_shares));
    TierFiller tiers_filled(in_.budgets.cpu_offload_bytes);
    for (size_t d = 0; d < plan.devices.size(); ++d) {
      DevicePlan& device = plan.devices[d];
      const auto& [pieces, mapped, mapped_tiers] = held[d];
      const bool decides = ours && tiers && excess[d] > 0;
      const PieceList gone = decides ? Gone(pieces, Evict(pieces, excess[d])) : mapped;
      device.staging = StagingBytes(gone);
      device.weights += device.staging;
      for (size_t i = 0; i < gone.size(); ++i) {
        const OffloadPiece& piece = *gone[i];
        const Tier lies_in = tiers_filled.Place(piece, decides ? std::nullopt : std::optional(mapped_tiers[i]));
        (lies_in == Tier::kCpu ? plan.offloaded_to_cpu : plan.offloaded_to_disk) += piece.bytes;
        device.weights -= piece.bytes;
        if (in_.names) Leave(piece, lies_in, /*mapped=*/!decides, device);
      }
    }
    AddLines();
    plan.offload_cpu_taken = in_.budgets.cpu_offload_bytes - tiers_filled.cpu_left();
    if (tiers_filled.cpu_left() < 0) {
      return absl::FailedPreconditionError(absl::StrCat("the device map puts ", FormatBytes(plan.offloaded_to_cpu),
                                                        " in CPU memory, for which max_memory has ",
                                                        FormatBytes(in_.budgets.cpu_offload_bytes)));
    }
    if (plan.offloaded_to_disk > 0 && !in_.options.offload_to_disk) layout_.tiers_short = plan.offloaded_to_disk;
    return absl::OkStatus();
  }

  void Leave(const OffloadPiece& piece, Tier lies_in, bool mapped, DevicePlan& device) {
    const std::string tier = TierName(lies_in);
    device.offloaded.push_back({piece.module, piece.kind, piece.bytes, lies_in});
    layout_.plan.device_map[piece.module] = tier;
    if (mapped) return;
    std::vector<ModulePlacement>& modules = layout_.plan.modules;
    if (line_of_module_.empty()) {
      for (size_t i = 0; i < modules.size(); ++i) line_of_module_[modules[i].name] = i;
    }
    std::string part = piece.module;
    while (!part.empty() && !line_of_module_.contains(part)) part = Around(part);
    const auto found = line_of_module_.find(part);
    if (found == line_of_module_.end()) return;
    const std::string reason = absl::StrCat(device.device.name, " has no room for all that it computes from");
    ModulePlacement& module = modules[found->second];
    if (module.name == piece.module) {
      module.device = tier;
      module.reason = reason;
      return;
    }
    // A line of its own, taken out of the part that it is of.
    module.bytes -= piece.bytes;
    lines_[found->second].push_back({piece.module, piece.bytes, tier, reason});
  }

  // Puts the lines of what left behind those of the parts that it is of.
  void AddLines() {
    std::vector<ModulePlacement> modules;
    for (size_t i = 0; i < layout_.plan.modules.size(); ++i) {
      modules.push_back(std::move(layout_.plan.modules[i]));
      if (auto found = lines_.find(i); found != lines_.end())
        std::move(found->second.begin(), found->second.end(), std::back_inserter(modules));
    }
    layout_.plan.modules = std::move(modules);
  }

  int64_t BlockBytes(const DevicePlan& device) const {
    const int64_t layers =
        std::count_if(device.units.begin(), device.units.end(), [this](int u) { return in_.units.is_layer(u); });
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
  std::vector<std::pair<int, int64_t>> in_tiers_;  // unit (-1: none) and bytes of the parts that the map has there
  std::unordered_map<std::string, size_t> line_of_module_;  // where the plan's modules have it
  std::map<size_t, std::vector<ModulePlacement>> lines_;    // more of them, by the one that they stand behind
  Layout layout_;
};

}  // namespace

absl::StatusOr<Layout> MakeLayout(const LayoutInput& input, const PartMap& map) { return Builder(input).Build(map); }

}  // namespace causeway
