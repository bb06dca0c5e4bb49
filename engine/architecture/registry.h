// The factory table of architectures.
#ifndef CAUSEWAY_ENGINE_ARCHITECTURE_REGISTRY_H_
#define CAUSEWAY_ENGINE_ARCHITECTURE_REGISTRY_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/architecture/spec.h"
#include "engine/checkpoint/checkpoint.h"

namespace causeway {

// Reads config.json by its model_type. `dtype` is the computation's; generation_config may be an empty object.
// Unimplemented: an architecture or an option that changes the computation and is not supported (named, with what is).
// InvalidArgument: a missing, ill-typed or contradictory value.
absl::StatusOr<ModelSpec> MakeModelSpec(const Json& config, const Json& generation_config, DType dtype);

// "auto", bf16, fp16, fp32. "auto" is config.json's dtype, or where it names none what most of the weights' bytes are
// stored in.
absl::StatusOr<DType> ComputeDType(absl::string_view flag, const Checkpoint& checkpoint);

// Model types of the factory table, sorted.
std::vector<std::string> SupportedArchitectures();

// Matches the checkpoint's tensors with the spec's: canonical name -> where the checkpoint holds it, which may be a
// slice of one of its tensors. Resolves the other spellings (gpt2 without "transformer.", stacked experts), leaves out
// listed inert buffers and tensors of known contents, checks dtypes (bf16, fp16, fp32) and shapes. Of tied tensors the
// result holds the source, wherever it is stored. Goes by the headers alone. InvalidArgument lists every missing and
// mismatched tensor at once, and those that the model has no use for, which alone are no error: they are `unused`.
absl::StatusOr<std::map<std::string, TensorInfo>> MatchTensors(const ModelSpec& spec, const Checkpoint& checkpoint,
                                                               std::vector<std::string>* unused = nullptr);

// Reads what MatchTensors cannot know: tied tensors that are both stored have to be equal, and tensors of known
// contents to have these. REQUIRES: it found no fault. InvalidArgument names the first that is otherwise.
absl::Status CheckContents(const ModelSpec& spec, const Checkpoint& checkpoint);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_ARCHITECTURE_REGISTRY_H_
