// The tree of modules of a model as the field names them, with the tensors each holds. Placement counts bytes on it,
// device maps name its paths, and the loader checks a checkpoint against it.
#ifndef CAUSEWAY_ENGINE_ARCHITECTURE_MODULE_H_
#define CAUSEWAY_ENGINE_ARCHITECTURE_MODULE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/base/dtype.h"

namespace causeway {

// A tensor that says what is known without it: element i is i / run.
struct KnownContents {
  int64_t run = 1;
  std::string because;  // "config.json says desc_act false"
};

struct Parameter {
  std::string name;  // local: "weight"
  DType dtype;
  std::vector<int64_t> shape;
  // Not counted among the parameters: computed at load and absent from checkpoints (a rotary module's inv_freq), or,
  // when persistent, stored beside the weights.
  bool buffer = false, persistent = false;
  // Full path of the parameter whose memory this one shares (a tied head), else empty. Tied bytes count once, at the
  // source.
  std::string tied_to = {};
  // `dtype` and `shape` are those of the tensor in the checkpoint (where dtype is bf16, fp16 or fp32, stored as any of
  // these). For quantized weights two things do not follow from them: the bytes held in memory, and how many of the
  // model's parameters it stands for.
  int64_t held_bytes = -1;  // -1: an element of dtype for each of the shape
  int64_t stands_for = -1;  // -1: one for each element

  // With a value, checkpoints may hold it or not: it is checked, and read by nothing.
  std::optional<KnownContents> known = {};

  // Whether checkpoints hold it; of tied ones, either or both.
  bool stored() const { return !buffer || persistent; }
  int64_t elements() const {
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    return n;
  }
  int64_t bytes() const { return held_bytes >= 0 ? held_bytes : elements() * DTypeBytes(dtype); }
  int64_t parameter_count() const { return stands_for >= 0 ? stands_for : elements(); }
};

struct Module {
  std::string name;    // local: "0", "self_attn"; the root's is ""
  std::string kind;    // "LlamaDecoderLayer"
  bool block = false;  // never split over devices
  std::vector<Parameter> parameters;
  std::vector<Module> children;
};

// "model.layers" and "3" make "model.layers.3"; an empty one of the two leaves the other.
std::string JoinPath(const std::string& parent, const std::string& name);

// "model.layers.3.mlp.up_proj.weight" -> "model.layers.3.mlp.up_proj"
std::string ModulePath(const std::string& tensor);

// Finds modules by their paths, fast where these come in the tree's order: each search begins at what the one before it
// found. An index of all modules takes longer to make than a plan where there are tens of thousands of experts.
class ModuleFinder {
 public:
  explicit ModuleFinder(Module& root) : root_(root) {}  // which must outlive this and keep its children

  Module& At(absl::string_view path);  // REQUIRES: the tree has it

 private:
  struct Step {
    Module* module;
    size_t child;  // the one that was found last
  };
  Module& root_;
  std::vector<Step> steps_;  // by depth
};

// Calls for every parameter and buffer with its full path, a module's own before its children's.
void VisitParameters(const Module& root,
                     const std::function<void(const std::string& path, const Parameter& parameter)>& visit);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_ARCHITECTURE_MODULE_H_
