// One function per architecture; registry.cc lists them. Each reads its own keys and builds the spec; errors go to
// `config`, and the spec counts only if it is ok() afterwards. What all share (dtypes, end-of-sequence ids, unknown
// keys) is the registry's.
#ifndef CAUSEWAY_ENGINE_ARCHITECTURE_ARCHITECTURES_H_
#define CAUSEWAY_ENGINE_ARCHITECTURE_ARCHITECTURES_H_

#include "engine/architecture/config_reader.h"
#include "engine/architecture/spec.h"

namespace causeway {

ModelSpec MakeGpt2(ConfigReader& config, DType dtype);
ModelSpec MakeLlama(ConfigReader& config, DType dtype);
ModelSpec MakeMiniMaxM2(ConfigReader& config, DType dtype);
ModelSpec MakeMistral(ConfigReader& config, DType dtype);
ModelSpec MakeMixtral(ConfigReader& config, DType dtype);
ModelSpec MakeQwen2(ConfigReader& config, DType dtype);
ModelSpec MakeQwen3(ConfigReader& config, DType dtype);
ModelSpec MakeQwen3Moe(ConfigReader& config, DType dtype);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_ARCHITECTURE_ARCHITECTURES_H_
