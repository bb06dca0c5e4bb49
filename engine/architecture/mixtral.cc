#include "engine/architecture/architectures.h"
#include "engine/architecture/decoder.h"
#include "engine/architecture/parts.h"

namespace causeway {

ModelSpec MakeMixtral(ConfigReader& config, DType dtype) {
  ExpertTraits experts{.block = "block_sparse_moe", .gate = "w1", .up = "w3", .down = "w2"};
  experts.count = config.Int("num_local_experts|num_experts", 1, kExpertsMax);
  experts.width = config.Int("intermediate_size", 1, kWidthMax);
  experts.rule = {.experts_per_token = ReadExpertsPerToken(config, experts.count, 2), .normalize = true};
  return MakeDecoder(config, dtype,
                     {.kind = "Mixtral",
                      .eps = 1e-5,
                      .context_max = 131072,
                      .theta = 1e6,
                      .windows = ReadWindow(config, 0),
                      .experts = experts});
}

}  // namespace causeway
