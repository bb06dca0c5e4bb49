// Pieces that architectures are put together from: modules as the field names them, and the spec's view of the same
// tensors.
#ifndef CAUSEWAY_ENGINE_ARCHITECTURE_PARTS_H_
#define CAUSEWAY_ENGINE_ARCHITECTURE_PARTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/architecture/config_reader.h"
#include "engine/architecture/spec.h"

namespace causeway {

// Bounds on what a config may ask for: far above any model, and low enough that no product of two overflows.
inline constexpr int64_t kVocabularyMax = int64_t{1} << 24;
inline constexpr int64_t kWidthMax = int64_t{1} << 22;  // hidden, intermediate, heads * head_dim
inline constexpr int64_t kLayersMax = 10'000;
inline constexpr int64_t kExpertsMax = 4096;                 // of a layer
inline constexpr int64_t kAllExpertsMax = int64_t{1} << 18;  // of all layers: each is held in memory as names and sizes
inline constexpr int64_t kContextMax = int64_t{1} << 40;

struct ActivationInfo {
  Activation activation = Activation::kSilu;
  std::string kind;  // the module's class
};
// Reads an activation's name; others than silu, gelu, relu and their spellings are unsupported by name.
ActivationInfo ReadActivation(ConfigReader& config, absl::string_view key, const std::string& otherwise);

// A module without children.
Module Leaf(std::string name, std::string kind, std::vector<Parameter> parameters = {});
// [out, in], or [in, out] when transposed (Conv1D).
Module LinearModule(std::string name, int64_t in, int64_t out, bool bias, DType dtype, bool transposed = false);
Module EmbeddingModule(std::string name, int64_t rows, int64_t width, DType dtype);

LinearSpec::Part LinearPart(const std::string& path, int64_t out, bool bias);
NormSpec Norm(NormKind kind, const std::string& path, double eps);
// The head over the vocabulary, as the root's next child: with a tied one, its weight is the embedding's.
void AddHead(ModelSpec& spec, const std::string& path, bool tied, DType dtype);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_ARCHITECTURE_PARTS_H_
