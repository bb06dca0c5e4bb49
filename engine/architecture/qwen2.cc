#include "engine/architecture/architectures.h"
#include "engine/architecture/decoder.h"

namespace causeway {

ModelSpec MakeQwen2(ConfigReader& config, DType dtype) {
  config.Skip("attention_bias");  // some configs have it; queries, keys and values have biases whatever it says
  return MakeDecoder(config, dtype,
                     {.kind = "Qwen2", .qkv_bias = true, .context_max = 32768, .windows = ReadSwitchedWindow(config)});
}

}  // namespace causeway
