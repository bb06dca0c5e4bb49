#include "engine/plan/field_policy.h"

#include <algorithm>
#include <deque>
#include <set>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/plan/device.h"

namespace causeway {
namespace {

constexpr char kDisk[] = "disk";

// One pass over the modules, and never back to an earlier device.
class Filler {
 public:
  Filler(const ModuleIndex& index, const std::vector<FieldBudget>& devices, const std::vector<int64_t>& kv_bytes)
      : index_(index), devices_(devices), kv_bytes_(kv_bytes) {
    // The first GPU and the CPU hold back room to bring an offloaded unit in; without a GPU, the CPU alone.
    const bool has_gpu = !devices.empty() && devices.front().key != "cpu";
    for (size_t i = 0; i < devices.size(); ++i) main_.push_back(devices[i].key == "cpu" || (i == 0 && has_gpu));
    const ModuleNode& root = index.node(0);
    list_.assign(root.tensors.begin(), root.tensors.end());
    // Parameters, then children, then buffers.
    auto first_buffer = std::find_if(list_.begin(), list_.end(), [&](int i) { return index.node(i).tensor->buffer; });
    list_.insert(first_buffer, root.children.begin(), root.children.end());
    Reserve(/*tensors=*/true);
  }

  PartMap Run() {
    while (!list_.empty()) {
      const int module = list_.front();
      list_.pop_front();
      std::erase_if(reserved_units_, [&](int unit) { return index_.Inside(unit, module); });
      if (reserved_units_.empty()) Reserve(/*tensors=*/false);
      Place(module);
    }
    return std::move(map_);
  }

 private:
  const ModuleNode& node(int i) const { return index_.node(i); }
  int64_t KvBytes(int i) const { return kv_bytes_.empty() ? 0 : kv_bytes_[i]; }
  bool disk() const { return device_ == devices_.size(); }
  const std::string& key() const {
    static const std::string disk_key = kDisk;
    return disk() ? disk_key : devices_[device_].key;
  }

  // The reservation: the size of the largest unit still listed, and every unit of that size. Tensors listed by
  // themselves count the first time only.
  void Reserve(bool tensors) {
    reserved_bytes_ = 0;
    reserved_units_.clear();
    for (const int listed : list_) {
      if (node(listed).module != nullptr || tensors) ReserveUnits(listed);
    }
  }
  void ReserveUnits(int i) {
    if (!node(i).whole()) {
      for (const int child : node(i).children) ReserveUnits(child);
      return;
    }
    if (node(i).bytes < reserved_bytes_) return;
    if (node(i).bytes > reserved_bytes_) reserved_units_.clear();
    reserved_bytes_ = node(i).bytes;
    reserved_units_.insert(i);
  }

  // Listed modules with weights that share memory with one inside `module`, in the order of those weights.
  std::vector<int> TiedPartners(int module) const {
    std::vector<int> partners;
    for (const std::vector<int>& group : index_.tied()) {
      auto inside = [&](int tensor) { return index_.Inside(tensor, module); };
      if (std::none_of(group.begin(), group.end(), inside)) continue;
      for (const int tensor : group) {
        if (inside(tensor)) continue;
        auto listed = std::find_if(list_.begin(), list_.end(), [&](int i) { return index_.Inside(tensor, i); });
        if (listed == list_.end()) continue;
        if (std::find(partners.begin(), partners.end(), *listed) == partners.end()) partners.push_back(*listed);
      }
    }
    return partners;
  }

  void Place(int module) {
    const std::vector<int> partners = TiedPartners(module);
    int64_t bytes = node(module).bytes, kv = KvBytes(module);
    for (const int partner : partners) {
      bytes += node(partner).bytes;
      kv += KvBytes(partner);
    }
    int64_t held_back = !disk() && main_[device_] ? reserved_bytes_ : 0;
    int64_t room = disk() ? 0 : devices_[device_].bytes - held_back - used_;
    // Where serving needs more than the field holds back, that is what counts.
    if (!disk() && devices_[device_].with_kv - used_ - used_kv_ - kv < room) {
      room = devices_[device_].with_kv - used_ - used_kv_ - kv;
      held_back = 0;
    }

    if (disk() || bytes <= room) {
      Assign(module, held_back, room, "");
      for (const int partner : partners) {
        Assign(partner, held_back, room, absl::StrCat("shares memory with ", node(module).path));
        list_.erase(std::find(list_.begin(), list_.end(), partner));
      }
      used_ += bytes;
      used_kv_ += kv;
      return;
    }
    if (!partners.empty() && node(module).bytes <= room) {
      for (const int partner : partners) {
        if (node(partner).whole()) continue;
        Split(std::find(list_.begin(), list_.end(), partner), partner);
        list_.push_front(module);
        Reserve(/*tensors=*/false);
        return;
      }
    }
    if (!node(module).whole()) {
      list_.push_front(module);
      Split(list_.begin(), module);
      Reserve(/*tensors=*/false);
      return;
    }
    skipped_ = absl::StrCat("; device ", key(), " had ", FormatBytes(std::max<int64_t>(0, room)), " left",
                            held_back > 0 ? absl::StrCat(" besides the ", FormatBytes(held_back),
                                                         " held back there for the largest unit to come")
                                          : "");
    list_.push_front(module);
    ++device_;
    used_ = used_kv_ = 0;
  }

  // Puts the parts of `module` in its place.
  void Split(std::deque<int>::iterator at, int module) {
    std::vector<int> parts = node(module).tensors;
    parts.insert(parts.end(), node(module).children.begin(), node(module).children.end());
    at = list_.erase(at);
    list_.insert(at, parts.begin(), parts.end());
  }

  void Assign(int module, int64_t held_back, int64_t room, const std::string& tie) {
    const std::string& path = node(module).path;
    map_.device_map[path] = key();
    std::string reason = tie;
    if (reason.empty() && disk()) {
      reason = absl::StrCat("no device has room for it", skipped_);
    } else if (reason.empty()) {
      reason =
          absl::StrCat("next in order, ", FormatBytes(node(module).bytes), " of the ", FormatBytes(room), " left",
                       held_back > 0 ? absl::StrCat(" besides ", FormatBytes(held_back), " held back") : "", skipped_);
    }
    map_.reasons[path] = reason;
    skipped_.clear();
  }

  const ModuleIndex& index_;
  const std::vector<FieldBudget>& devices_;
  const std::vector<int64_t>& kv_bytes_;
  std::vector<bool> main_;  // holds a reservation back
  std::deque<int> list_;    // still to be placed
  int64_t reserved_bytes_ = 0;
  std::set<int> reserved_units_;
  size_t device_ = 0;               // devices_.size() is the disk
  int64_t used_ = 0, used_kv_ = 0;  // on it
  std::string skipped_;             // why the device before was left
  PartMap map_;
};

}  // namespace

std::optional<FieldStrategy> FieldStrategyNamed(absl::string_view device_map) {
  if (device_map == "balanced") return FieldStrategy::kBalanced;
  if (device_map == "balanced_low_0") return FieldStrategy::kBalancedLow0;
  if (device_map == "sequential") return FieldStrategy::kSequential;
  return std::nullopt;
}

absl::StatusOr<std::vector<int64_t>> FieldCaps(const ModuleIndex& index, const std::vector<FieldBudget>& gpus,
                                               FieldStrategy strategy) {
  std::vector<int64_t> caps;
  std::vector<size_t> live;
  for (const FieldBudget& gpu : gpus) {
    if (gpu.bytes > 0) live.push_back(caps.size());
    caps.push_back(gpu.bytes);
  }
  if (strategy == FieldStrategy::kSequential || live.size() < 2) return caps;
  const bool low_0 = strategy == FieldStrategy::kBalancedLow0;
  if (low_0 && gpus[0].key != "0") {
    return absl::InvalidArgumentError(absl::StrCat(
        "device_map balanced_low_0 spares GPU 0, which is not among the GPUs with a budget (",
        absl::StrJoin(gpus, ", ", [](std::string* out, const FieldBudget& gpu) { absl::StrAppend(out, gpu.key); }),
        "); use balanced, or give GPU 0 a budget"));
  }

  // Stages cannot be cut anywhere: without slack for the largest piece, the last GPU would take what all others left
  // over.
  int64_t largest = 0;
  for (const ModuleNode& node : index.nodes()) {
    if (node.module == nullptr) continue;
    largest = std::max({largest, node.parent >= 0 ? node.own_bytes : 0, node.module->block ? node.bytes : 0});
  }
  const int64_t share = index.node(0).bytes / static_cast<int64_t>(low_0 ? live.size() - 1 : live.size()) +
                        static_cast<int64_t>(1.25 * static_cast<double>(largest));
  for (const size_t i : live) {
    if (i != live.back() && !(low_0 && i == 0)) caps[i] = std::min(caps[i], share);
  }
  if (low_0) {
    int64_t others = 0;
    for (const size_t i : live) others += i == 0 ? 0 : caps[i];
    caps[0] = std::min(caps[0], std::max<int64_t>(0, index.node(0).bytes - others));
  }
  return caps;
}

PartMap FieldFill(const ModuleIndex& index, const std::vector<FieldBudget>& devices,
                  const std::vector<int64_t>& kv_bytes) {
  return Filler(index, devices, kv_bytes).Run();
}

}  // namespace causeway
