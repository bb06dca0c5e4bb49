// The other names that checkpoints have for a model's tensors: renamed ones, and stacks of several
// (ModelSpec::spellings).
#ifndef CAUSEWAY_ENGINE_ARCHITECTURE_SPELLING_H_
#define CAUSEWAY_ENGINE_ARCHITECTURE_SPELLING_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/architecture/spec.h"
#include "engine/checkpoint/checkpoint.h"

namespace causeway {

// "model.layers.3.mlp.gate.weight" -> "model.layers.#.mlp.gate.weight"
std::string WithoutNumbers(const std::string& name);

// What a tensor stored under `name` holds by one of the spellings: canonical names, each with its part of the tensor.
// Empty when none is meant. InvalidArgument: a stack of a shape that cannot be cut.
absl::StatusOr<std::vector<std::pair<std::string, TensorInfo>>> Resolve(const std::vector<TensorSpelling>& spellings,
                                                                        const std::string& name,
                                                                        const TensorInfo& tensor);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_ARCHITECTURE_SPELLING_H_
