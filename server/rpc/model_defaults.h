// Defaults from a model's generation_config.json, for requests that leave a field out.
#ifndef CAUSEWAY_SERVER_RPC_MODEL_DEFAULTS_H_
#define CAUSEWAY_SERVER_RPC_MODEL_DEFAULTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/checkpoint/json.h"

namespace causeway {

struct ModelDefaults {
  double temperature = 1;
  int32_t top_k = 0;
  double top_p = 1;
  double min_p = 0;
  double typical_p = 1;
  double repetition_penalty = 1;
};

// do_sample: false means temperature 0. A value of a wrong type or out of range is left out, with a warning.
ModelDefaults ReadModelDefaults(const Json& generation_config, std::vector<std::string>* warnings);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_MODEL_DEFAULTS_H_
