// Frequencies of rotary position embedding, from either spelling of a config: rope_theta and rope_scaling at the top,
// or all of it in rope_parameters.
#ifndef CAUSEWAY_ENGINE_ARCHITECTURE_ROPE_H_
#define CAUSEWAY_ENGINE_ARCHITECTURE_ROPE_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/architecture/config_reader.h"
#include "engine/architecture/spec.h"

namespace causeway {

struct RopeDefaults {
  int64_t head_dim = 0;
  int64_t max_positions = 0;
  double theta = 10000;
  // partial_rotary_factor where the config has none. Unset: the architecture does not know it. Llama does not: in the
  // field its default rope ignores the key and the scaled ones fail on it, so a value below 1 is refused there. Only
  // proportional rope reads it in every architecture.
  std::optional<double> partial = std::nullopt;
};

// Types default, linear, dynamic, llama3, yarn, longrope, proportional; others are unsupported by name. Errors go to
// `config`. The numbers are computed in float32 in the field's order of operations: a frequency that differs by a few
// units in the last place turns into a visible angle after some ten thousand positions.
RopeSpec ReadRope(ConfigReader& config, const RopeDefaults& defaults);

// inv_freq of a text of `length` positions: spec.inv_freq up to spec.original.
std::vector<double> InvFreqAt(const RopeSpec& spec, int64_t length);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_ARCHITECTURE_ROPE_H_
