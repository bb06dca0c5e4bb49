// Tables of the rotary position embedding.
#ifndef CAUSEWAY_ENGINE_MODEL_ROTARY_H_
#define CAUSEWAY_ENGINE_MODEL_ROTARY_H_

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "engine/architecture/spec.h"

namespace causeway {

struct RotaryTables {
  at::Tensor cos, sin;  // fp32 [positions, dim / 2]; undefined: the model has no rotary embedding
};

// Angles are fp32 products of position and frequency, as the field computes them.
//
// Dynamic NTK scaling: the row of position p has the frequencies for a text of p + 1 tokens. That is what the field
// computes for a token generated alone with a cache. A prompt longer than the original context is rotated in the field
// by the length of the longest prompt of the batch, so that its tokens depend on its neighbours and on how it was
// chunked; here they never do. LongRoPE is treated alike: positions within the original context have the short factors,
// those beyond it the long ones.
// On the host.
RotaryTables MakeRotaryTables(const RopeSpec& rope, int64_t positions);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_MODEL_ROTARY_H_
