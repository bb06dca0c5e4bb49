// Where the tensors of a checkpoint go.
#ifndef CAUSEWAY_ENGINE_WEIGHTS_TARGETS_H_
#define CAUSEWAY_ENGINE_WEIGHTS_TARGETS_H_

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "engine/architecture/shard.h"
#include "engine/architecture/spec.h"
#include "engine/ops/ops.h"

namespace causeway {

struct LinearTarget {
  LinearWeight* weight = nullptr;
  LinearSpec spec;
  LinearShard shard;
  // Targets are filled portion by portion, ascending, vectors with portion 0. kFilled: nothing is read for it.
  static constexpr int kFilled = -1;
  int portion = 0;
};
struct VectorTarget {
  std::string tensor;  // canonical name
  at::Tensor values;   // [n]; converted to its dtype
  int64_t first = 0;   // of the tensor's values
};
// One rank's.
struct LoadTargets {
  std::vector<LinearTarget> linears;
  std::vector<VectorTarget> vectors;
  std::vector<std::string> elsewhere;  // canonical names of tensors that others read
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_WEIGHTS_TARGETS_H_
