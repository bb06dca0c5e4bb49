#include "engine/architecture/architectures.h"
#include "engine/architecture/decoder.h"

namespace causeway {

ModelSpec MakeMistral(ConfigReader& config, DType dtype) {
  return MakeDecoder(config, dtype, {.kind = "Mistral", .context_max = 131072, .windows = ReadWindow(config, 4096)});
}

}  // namespace causeway
