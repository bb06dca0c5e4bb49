#include "engine/architecture/architectures.h"
#include "engine/architecture/decoder.h"

namespace causeway {

ModelSpec MakeLlama(ConfigReader& config, DType dtype) {
  const bool attention_bias = config.Bool("attention_bias", false);
  return MakeDecoder(config, dtype,
                     {.kind = "Llama",
                      .qkv_bias = attention_bias,
                      .output_bias = attention_bias,
                      .mlp_bias = config.Bool("mlp_bias", false)});
}

}  // namespace causeway
