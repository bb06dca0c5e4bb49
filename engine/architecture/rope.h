// Frequencies of rotary position embedding, from either spelling of a config: rope_theta and rope_scaling at the top,
// or all of it in rope_parameters.
#ifndef CAUSEWAY_ENGINE_ARCHITECTURE_ROPE_H_
#define CAUSEWAY_ENGINE_ARCHITECTURE_ROPE_H_

#include <cstdint>
#include <vector>

#include "engine/architecture/config_reader.h"
#include "engine/architecture/spec.h"

namespace causeway {

struct RopeDefaults {
  int64_t head_dim = 0;
  int64_t max_positions = 0;
  double theta = 10000;
  // The architecture knows partial_rotary_factor. Llama does not: in the field its default rope ignores the key and the
  // scaled ones fail on it, so a value below 1 is refused there.
  bool partial = false;
};

// Types default, linear, dynamic, llama3, yarn; others are unsupported by name. Errors go to `config`. The numbers
// are computed in float32 in the field's order of operations: a frequency that differs by a few units in the last
// place turns into a visible angle after some ten thousand positions.
RopeSpec ReadRope(ConfigReader& config, const RopeDefaults& defaults);

// inv_freq of dynamic rope when the longest sequence has `length` positions; without dynamic scaling, and up to
// dynamic_original positions, spec.inv_freq.
std::vector<double> DynamicInvFreq(const RopeSpec& spec, int64_t length);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_ARCHITECTURE_ROPE_H_
