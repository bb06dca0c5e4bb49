#include "engine/architecture/architectures.h"
#include "engine/architecture/decoder.h"

namespace causeway {

ModelSpec MakeQwen3(ConfigReader& config, DType dtype) {
  const bool attention_bias = config.Bool("attention_bias", false);
  return MakeDecoder(config, dtype,
                     {.kind = "Qwen3",
                      .qkv_bias = attention_bias,
                      .output_bias = attention_bias,
                      .query_key_norms = QueryKeyNorms::kPerHead,
                      .context_max = 32768,
                      .windows = ReadSwitchedWindow(config)});
}

}  // namespace causeway
