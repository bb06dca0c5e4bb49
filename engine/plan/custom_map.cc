#include "engine/plan/custom_map.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/listed.h"

namespace causeway {
namespace {

constexpr size_t kNamesShown = 8;

// Known paths with the same last name, or the root's children: what the writer may have meant.
std::string Suggestion(const ModuleIndex& index, const std::string& path) {
  const std::string last = path.substr(path.rfind('.') + 1);
  std::vector<std::string> close, top;
  for (const ModuleNode& node : index.nodes()) {
    if (node.module == nullptr || node.path.empty()) continue;
    if (node.path.substr(node.path.rfind('.') + 1) == last && close.size() < 2) close.push_back(node.path);
    if (node.parent == 0) top.push_back(node.path);
  }
  if (!close.empty()) return absl::StrCat("did you mean ", absl::StrJoin(close, " or "), "?");
  return absl::StrCat("the model's modules are ", Listed(top, kNamesShown));
}

}  // namespace

const Device* FindDevice(absl::Span<const Device> devices, absl::string_view text) {
  const std::string wanted(text);
  for (const Device& device : devices) {
    if (device.key() == wanted || device.name == wanted || (wanted == "cuda" && device.kind == DeviceKind::kCuda))
      return &device;
  }
  return nullptr;
}

absl::StatusOr<std::map<std::string, std::string>> CheckCustomMap(const ModuleIndex& index,
                                                                  absl::Span<const Device> devices,
                                                                  const std::map<std::string, std::string>& custom) {
  if (custom.empty())
    return absl::InvalidArgumentError("device_map is custom, but the map is empty; {\"\": 0} puts all on device 0");
  std::vector<std::string> faults;
  size_t wrong_entries = 0;
  const auto fault = [&](const std::function<std::string()>& text) {
    if (++wrong_entries <= kNamesShown) faults.push_back(text());
  };
  std::map<std::string, std::string> checked;
  for (const auto& entry : custom) {
    const std::string &prefix = entry.first, &text = entry.second;
    if (index.Find(prefix) < 0) {
      fault([&] {
        return absl::StrCat("\"", prefix, "\" is no module of this model (", Suggestion(index, prefix), ")");
      });
    }
    const Device* device = FindDevice(devices, text);
    if (device == nullptr && text != "cpu" && text != "disk") {
      const auto name = [](std::string* out, const Device& d) { absl::StrAppend(out, d.name); };
      fault([&] {
        return absl::StrCat("\"", prefix, "\" is to be on \"", text, "\", which is not among the devices (",
                            absl::StrJoin(devices, ", ", name), ")");
      });
    }
    checked[prefix] = device != nullptr ? device->key() : text;
  }
  if (wrong_entries > kNamesShown) faults.push_back(absl::StrCat("and ", wrong_entries - kNamesShown, " more"));

  // A tied weight that no entry covers is where its source is.
  for (const std::vector<int>& group : index.tied()) {
    for (const int tensor : group) {
      const int source = index.TiedSource(tensor);
      if (source < 0 || LookUp(checked, index.node(tensor).path) != nullptr) continue;
      if (const std::string* device = LookUp(checked, index.node(source).path); device != nullptr) {
        const std::string followed = *device;
        checked[index.node(tensor).path] = followed;
      }
    }
  }

  std::vector<std::string> uncovered, divided;
  for (const int part : index.Parts()) {
    const ModuleNode& node = index.node(part);
    bool covered = true;
    std::map<std::string, std::string> devices_of;  // device -> one tensor there
    for (int i = part; i < node.end; ++i) {
      if (index.node(i).tensor == nullptr) continue;
      const std::string* device = LookUp(checked, index.node(i).path);
      if (device == nullptr && !index.node(i).tensor->buffer)
        covered = false;  // buffers are computed wherever they are needed
      // What is in CPU memory or on disk is computed where the rest of the block is.
      if (device != nullptr && FindDevice(devices, *device) != nullptr) devices_of.emplace(*device, index.node(i).path);
    }
    if (!covered) uncovered.push_back(node.path);
    if (devices_of.size() > 1) {
      auto [first_device, first] = *devices_of.begin();
      auto [last_device, last] = *devices_of.rbegin();
      divided.push_back(
          absl::StrCat(node.path, " (", first, " on ", first_device, ", ", last, " on ", last_device, ")"));
    }
  }
  if (!uncovered.empty()) {
    faults.push_back(absl::StrCat("no entry covers ", Listed(uncovered, kNamesShown),
                                  "; an entry \"\" stands for all that is left"));
  }
  if (!divided.empty())
    faults.push_back(
        absl::StrCat("a block stays whole on one device, but the map divides ", Listed(divided, kNamesShown)));
  if (!faults.empty()) return absl::InvalidArgumentError(absl::StrCat("device_map: ", absl::StrJoin(faults, "; ")));
  return checked;
}

}  // namespace causeway
