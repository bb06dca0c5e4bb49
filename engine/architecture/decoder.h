// The decoder that Llama and its relatives share: RMS norms before attention and MLP, rotary embedding, grouped
// queries, a gated MLP or a mixture of them. A relative is a file that fills in DecoderTraits.
#ifndef CAUSEWAY_ENGINE_ARCHITECTURE_DECODER_H_
#define CAUSEWAY_ENGINE_ARCHITECTURE_DECODER_H_

#include <cstdint>
#include <optional>
#include <string>

#include "engine/architecture/config_reader.h"
#include "engine/architecture/experts.h"
#include "engine/architecture/spec.h"
#include "engine/architecture/windows.h"

namespace causeway {

enum class QueryKeyNorms { kNone, kPerHead, kWholeProjection };

struct DecoderTraits {
  std::string kind;  // "Llama": the class names' beginning
  bool qkv_bias = false, output_bias = false, mlp_bias = false;
  QueryKeyNorms query_key_norms = QueryKeyNorms::kNone;
  // Defaults that no tensor's shape would contradict: the field's classes have their own.
  double eps = 1e-6;
  int64_t context_max = 2048;
  double theta = 10000;
  // The part of each head that is rotated where the config does not say; unset: the architecture always rotates all of
  // it.
  std::optional<double> partial_rotary;
  Windows windows;
  std::optional<ExpertTraits> experts;
};

// Reads the sizes, and builds the spec from them. Errors go to `config`; the spec counts only if it is ok() afterwards.
ModelSpec MakeDecoder(ConfigReader& config, DType dtype, const DecoderTraits& traits);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_ARCHITECTURE_DECODER_H_
