// A module tree laid flat: paths, sizes, and which weights share memory. What all placement rules count with.
#ifndef CAUSEWAY_ENGINE_PLAN_MODULE_SIZES_H_
#define CAUSEWAY_ENGINE_PLAN_MODULE_SIZES_H_

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/architecture/module.h"

namespace causeway {

// A module, or a tensor of one.
struct ModuleNode {
  std::string path;  // "" is the root
  const Module* module = nullptr;
  const Parameter* tensor = nullptr;  // then module is null
  int parent = -1;
  int end = 0;                // nodes [self, end) are this one and all inside it
  int64_t bytes = 0;          // all inside; tied ones count at their source only
  int64_t own_bytes = 0;      // of the tensors directly in it
  std::vector<int> tensors;   // its own: parameters first, then buffers
  std::vector<int> children;  // modules

  // Cannot be divided over devices: a tensor, a block, or a module without children.
  bool whole() const { return module == nullptr || module->block || children.empty(); }
};

class ModuleIndex {
 public:
  // `root` must outlive this. What is inside blocks is as good as all of a model of many experts, and only custom maps
  // name it: without it, a block is a node of its own size and nothing more.
  explicit ModuleIndex(const Module& root, bool inside_blocks = true);

  const std::vector<ModuleNode>& nodes() const { return nodes_; }  // parents before children, in the tree's order
  const ModuleNode& node(int i) const { return nodes_[i]; }
  int Find(const std::string& path) const;  // -1: no such path
  bool Inside(int inner, int outer) const { return inner >= outer && inner < nodes_[outer].end; }

  // Groups of tensors that share memory, each sorted by path.
  const std::vector<std::vector<int>>& tied() const { return tied_; }
  // The tensor whose memory this one shares, or -1.
  int TiedSource(int tensor) const;

  // Smallest parts a map places one by one, in the tree's order: blocks, modules without children, and tensors of
  // modules that have both tensors and children.
  std::vector<int> Parts() const;

 private:
  int Add(const Module& module, const std::string& path, int parent);

  const bool inside_blocks_;
  std::vector<ModuleNode> nodes_;
  std::unordered_map<std::string, int> by_path_;
  std::unordered_map<int, int> source_;  // tied tensor -> the one whose memory it shares
  std::vector<std::vector<int>> tied_;
};

// What a policy decides: one key for each part placed by itself. MergeUpwards shortens the map.
struct PartMap {
  std::map<std::string, std::string> device_map;  // path -> device key
  std::map<std::string, std::string> reasons;     // same keys
};

// Whether `prefix` names `path` or a module around it; "" is around everything.
bool IsPathPrefix(absl::string_view prefix, absl::string_view path);

// The device of the longest key around `path`, or null.
template <class Value>
const Value* LookUp(const std::map<std::string, Value>& device_map, const std::string& path) {
  std::string key = path;
  while (true) {
    if (auto found = device_map.find(key); found != device_map.end()) return &found->second;
    if (key.empty()) return nullptr;
    const size_t dot = key.rfind('.');
    key.resize(dot == std::string::npos ? 0 : dot);
  }
}

// Merges keys with a common prefix and one device upwards, as the field's maps do; {"": d} when two or more are all on
// d.
std::map<std::string, std::string> MergeUpwards(const std::map<std::string, std::string>& device_map);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_PLAN_MODULE_SIZES_H_
