#include "engine/plan/module_sizes.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"

namespace causeway {
namespace {

int64_t BytesInside(const Module& module) {
  int64_t bytes = 0;
  for (const Parameter& tensor : module.parameters) bytes += tensor.tied_to.empty() ? tensor.bytes() : 0;
  for (const Module& child : module.children) bytes += BytesInside(child);
  return bytes;
}

void MergeBelow(std::map<std::string, std::string>& map, const std::string& module) {
  const std::string prefix = module.empty() ? "" : module + ".";
  auto first = map.lower_bound(prefix), last = first;
  bool same = true;
  int count = 0;
  std::vector<std::string> children;
  for (; last != map.end() && absl::StartsWith(last->first, prefix); ++last, ++count) {
    same = same && last->second == first->second;
    const std::string child = last->first.substr(0, last->first.find('.', prefix.size()));
    if (children.empty() || children.back() != child) children.push_back(child);
  }
  if (same && count > 1) {
    const std::string device = first->second;
    map.erase(first, last);
    map[module] = device;
    return;
  }
  for (const std::string& child : children) {
    if (!child.empty()) MergeBelow(map, child);
  }
}

}  // namespace

ModuleIndex::ModuleIndex(const Module& root, bool inside_blocks) : inside_blocks_(inside_blocks) {
  Add(root, "", -1);
  std::map<int, std::vector<int>> groups;
  for (int i = 0; i < static_cast<int>(nodes_.size()); ++i) {
    if (nodes_[i].tensor == nullptr || nodes_[i].tensor->tied_to.empty()) continue;
    const int source = Find(nodes_[i].tensor->tied_to);
    if (source < 0 || source == i) continue;
    source_[i] = source;
    groups[source].push_back(i);
  }
  for (auto& [source, tensors] : groups) {
    tensors.push_back(source);
    std::sort(tensors.begin(), tensors.end(), [this](int a, int b) { return nodes_[a].path < nodes_[b].path; });
    tied_.push_back(std::move(tensors));
  }
  // Children come after their parents, so that one pass from the end sums up every subtree.
  for (int i = static_cast<int>(nodes_.size()) - 1; i >= 0; --i) {
    ModuleNode& node = nodes_[i];
    if (node.tensor != nullptr) node.bytes = source_.count(i) ? 0 : node.tensor->bytes();
    if (node.parent < 0) continue;
    nodes_[node.parent].bytes += node.bytes;
    if (node.tensor != nullptr) nodes_[node.parent].own_bytes += node.bytes;
  }
}

int ModuleIndex::Add(const Module& module, const std::string& path, int parent) {
  const int self = static_cast<int>(nodes_.size());
  nodes_.emplace_back();
  nodes_[self].path = path;
  nodes_[self].module = &module;
  nodes_[self].parent = parent;
  by_path_[path] = self;
  if (module.block && !inside_blocks_) {
    nodes_[self].bytes = BytesInside(module);
    nodes_[self].end = self + 1;
    return self;
  }
  for (const bool buffers : {false, true}) {
    for (const Parameter& tensor : module.parameters) {
      if (tensor.buffer != buffers) continue;
      const int id = static_cast<int>(nodes_.size());
      ModuleNode node;
      node.path = JoinPath(path, tensor.name);
      node.tensor = &tensor;
      node.parent = self;
      node.end = id + 1;
      by_path_[node.path] = id;
      nodes_.push_back(std::move(node));
      nodes_[self].tensors.push_back(id);
    }
  }
  for (const Module& child : module.children) {
    const int id = Add(child, JoinPath(path, child.name), self);
    nodes_[self].children.push_back(id);
  }
  nodes_[self].end = static_cast<int>(nodes_.size());
  return self;
}

int ModuleIndex::Find(const std::string& path) const {
  auto found = by_path_.find(path);
  return found == by_path_.end() ? -1 : found->second;
}

int ModuleIndex::TiedSource(int tensor) const {
  auto found = source_.find(tensor);
  return found == source_.end() ? -1 : found->second;
}

std::vector<int> ModuleIndex::Parts() const {
  std::vector<int> parts;
  for (int i = 0; i < static_cast<int>(nodes_.size());) {
    if (nodes_[i].whole()) {
      parts.push_back(i);
      i = nodes_[i].end;
    } else {
      ++i;
    }
  }
  return parts;
}

bool IsPathPrefix(absl::string_view prefix, absl::string_view path) {
  return prefix.empty() ||
         (absl::StartsWith(path, prefix) && (path.size() == prefix.size() || path[prefix.size()] == '.'));
}

std::map<std::string, std::string> MergeUpwards(const std::map<std::string, std::string>& device_map) {
  std::map<std::string, std::string> merged = device_map;
  MergeBelow(merged, "");
  return merged;
}

}  // namespace causeway
