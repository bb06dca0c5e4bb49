// The tree of modules of a model as the field names them, with the tensors each holds. Placement counts bytes on it, device
// maps name its paths, and the loader checks a checkpoint against it.
#ifndef CAUSEWAY_ENGINE_ARCHITECTURE_MODULE_H_
#define CAUSEWAY_ENGINE_ARCHITECTURE_MODULE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/base/dtype.h"

namespace causeway {

struct Parameter {
  std::string name;  // local: "weight"
  DType dtype;
  std::vector<int64_t> shape;
  // Not counted among the parameters: computed at load and absent from checkpoints (a rotary module's inv_freq), or, when
  // persistent, stored beside the weights.
  bool buffer = false, persistent = false;
  // Full path of the parameter whose memory this one shares (a tied head), else empty. Tied bytes count once, at the source.
  std::string tied_to = {};

  // Whether checkpoints hold it; of tied ones, either or both.
  bool stored() const { return !buffer || persistent; }
  int64_t bytes() const {
    int64_t n = DTypeBytes(dtype);
    for (int64_t d : shape) n *= d;
    return n;
  }
};

struct Module {
  std::string name;  // local: "0", "self_attn"; the root's is ""
  std::string kind;  // "LlamaDecoderLayer"
  bool block = false;  // never split over devices
  std::vector<Parameter> parameters;
  std::vector<Module> children;
};

// "model.layers" and "3" make "model.layers.3"; an empty one of the two leaves the other.
std::string JoinPath(const std::string& parent, const std::string& name);

// Calls for every parameter and buffer with its full path, a module's own before its children's.
void VisitParameters(const Module& root, const std::function<void(const std::string& path, const Parameter& parameter)>& visit);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_ARCHITECTURE_MODULE_H_
