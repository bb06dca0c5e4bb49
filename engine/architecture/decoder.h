// The decoder that Llama and its relatives share: RMS norms before attention and MLP, rotary embedding, grouped
// queries, a gated MLP. A relative is a file that fills in DecoderTraits.
#ifndef CAUSEWAY_ENGINE_ARCHITECTURE_DECODER_H_
#define CAUSEWAY_ENGINE_ARCHITECTURE_DECODER_H_

#include <cstdint>
#include <string>

#include "engine/architecture/config_reader.h"
#include "engine/architecture/spec.h"

namespace causeway {

struct DecoderTraits {
  std::string kind;  // "Llama": the class names' beginning
  bool qkv_bias = false, output_bias = false, mlp_bias = false;
  bool tied_head = false;  // the default of tie_word_embeddings
  bool partial_rotary = false;
  int64_t sliding_window = 0;
};

// Reads the sizes, and builds the spec from them. Errors go to `config`; the spec counts only if it is ok() afterwards.
ModelSpec MakeDecoder(ConfigReader& config, DType dtype, const DecoderTraits& traits);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_ARCHITECTURE_DECODER_H_
